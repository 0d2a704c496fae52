//! From what a client asks for to an app, a stream id and query parameters.
//!
//! `rtmp://host/LiveApp/cam1?token=abc` reaches us as a `tcUrl`, an `app` and a stream name that clients cut in
//! different places; parameters may hang on any of them. AMS's path form
//! `/{app}/{id}/{token}/{subscriberId}/{subscriberCode}` gives parameters too.

/// So many parameters are kept: those of a name that has more are not meant for us.
const MOST_PARAMETERS: usize = 64;

/// What a client wants to publish or play.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// The app, such as `LiveApp`; empty when the client gave none.
    pub app: String,
    /// The stream id; empty when the client gave none.
    pub stream: String,
    /// Decoded parameters: those of the stream name first, then of the app, then of the URL, then of the path.
    pub query: Vec<(String, String)>,
}

impl Target {
    /// Puts together what a client said in `connect` (`app` and `tcUrl`) and in `publish` or `play` (`name`).
    pub fn new(app: &str, tc_url: &str, name: &str) -> Self {
        let (app_path, app_query) = split(app);
        let (name_path, name_query) = split(name);
        let (_, url_query) = split(tc_url);
        let mut segments =
            app_path.split('/').chain(name_path.split('/')).filter(|s| !s.is_empty()).map(decode);
        let mut target = Target {
            app: segments.next().unwrap_or_default(),
            stream: segments.next().unwrap_or_default(),
            query: Vec::new(),
        };
        for query in [name_query, app_query, url_query] {
            for pair in query.split('&').filter(|p| !p.is_empty()) {
                let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                target.add(decode(key), decode(value));
            }
        }
        for (key, value) in ["token", "subscriberId", "subscriberCode"].into_iter().zip(segments) {
            target.add(key.to_owned(), value);
        }
        target
    }

    /// The app that `connect` names.
    pub fn app(app: &str) -> String {
        Target::new(app, "", "").app
    }

    fn add(&mut self, key: String, value: String) {
        if self.query.len() < MOST_PARAMETERS && !self.query.iter().any(|(k, _)| *k == key) {
            self.query.push((key, value));
        }
    }
}

fn split(text: &str) -> (&str, &str) {
    text.split_once('?').unwrap_or((text, ""))
}

/// Percent-decoding; a `+` stays, since tokens may have one.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let hex = |at: usize| bytes.get(at).and_then(|b| char::from(*b).to_digit(16));
        match hex(i + 1).zip(hex(i + 2)).filter(|_| bytes[i] == b'%') {
            Some((high, low)) => {
                out.push((high * 16 + low) as u8);
                i += 3;
            }
            None => {
                out.push(bytes[i]);
                i += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(app: &str, url: &str, name: &str) -> (String, String, String) {
        let t = Target::new(app, url, name);
        let query: Vec<_> = t.query.iter().map(|(k, v)| format!("{k}={v}")).collect();
        (t.app, t.stream, query.join("&"))
    }

    fn parts(app: &str, stream: &str, query: &str) -> (String, String, String) {
        (app.into(), stream.into(), query.into())
    }

    #[test]
    fn however_the_client_cuts_it() {
        assert_eq!(target("LiveApp", "rtmp://h/LiveApp", "cam1"), parts("LiveApp", "cam1", ""));
        assert_eq!(target("LiveApp/", "", "/cam1"), parts("LiveApp", "cam1", ""));
        assert_eq!(target("LiveApp/cam1", "", ""), parts("LiveApp", "cam1", ""));
        assert_eq!(target("LiveApp", "", "cam1?token=a%20b&x"), parts("LiveApp", "cam1", "token=a b&x="));
        assert_eq!(
            target("LiveApp?token=t", "rtmp://h/LiveApp?token=t", "cam1"),
            parts("LiveApp", "cam1", "token=t")
        );
        assert_eq!(
            target("LiveApp", "rtmp://h/LiveApp?token=u", "cam1"),
            parts("LiveApp", "cam1", "token=u")
        );
    }

    #[test]
    fn the_path_form_of_ams() {
        let want = parts("LiveApp", "cam1", "token=tok&subscriberId=sub&subscriberCode=123456");
        assert_eq!(target("LiveApp", "", "cam1/tok/sub/123456"), want);
        // FFmpeg takes the first two segments for the app.
        assert_eq!(target("LiveApp/cam1", "", "tok/sub/123456"), want);
        assert_eq!(target("LiveApp/cam1", "", "tok"), parts("LiveApp", "cam1", "token=tok"));
    }

    #[test]
    fn odd_percent_signs_stay() {
        assert_eq!(decode("50%+%zz%4"), "50%+%zz%4");
        assert_eq!(decode("%+1%-1"), "%+1%-1");
    }
}
