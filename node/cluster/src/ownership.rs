//! Epochs, leases, and who may publish what is published already: pure, with time as an argument.
