export const App = () => <h1>Sluice</h1>;
