//! Parameters of a request: those of the URL, and the bearer token.

use http::{HeaderMap, Uri, header};

/// So many parameters are kept.
const MOST: usize = 64;

/// The parameters of a URL, decoded, in their order, the first of each name. A bearer token is the parameter `token`, and goes
/// before one in the URL.
pub(super) fn parameters(uri: &Uri, headers: &HeaderMap) -> Vec<(String, String)> {
    let mut list: Vec<(String, String)> = Vec::new();
    let bearer = bearer(headers).map(|token| ("token".to_owned(), token.to_owned()));
    let pairs = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(key), decode(value))
    });
    for (key, value) in bearer.into_iter().chain(pairs) {
        if list.len() < MOST && !list.iter().any(|(known, _)| *known == key) {
            list.push((key, value));
        }
    }
    list
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// Percent-decoding; a `+` stays, since tokens may have one.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [first, tail @ ..] = rest {
        let hex = |at: usize| tail.get(at).and_then(|b| char::from(*b).to_digit(16));
        match hex(0).zip(hex(1)).filter(|_| *first == b'%') {
            Some((high, low)) => {
                out.push((high * 16 + low) as u8);
                rest = &tail[2..];
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(uri: &str, authorization: Option<&str>) -> Vec<(String, String)> {
        let mut headers = HeaderMap::new();
        if let Some(value) = authorization {
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
        }
        parameters(&uri.parse().unwrap(), &headers)
    }

    #[test]
    fn parameters_are_decoded_and_the_first_of_a_name_counts() {
        let list = of("/LiveApp/whip/a?token=a%2Bb+c&subscriberId=&x&token=2&bad=%zz%4", None);
        let list: Vec<_> = list.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(list, [("token", "a+b+c"), ("subscriberId", ""), ("x", ""), ("bad", "%zz%4")]);
        let many: String = (0..100).map(|n| format!("p{n}=1&")).collect();
        assert_eq!(of(&format!("/a?{many}"), None).len(), MOST);
    }

    #[test]
    fn a_bearer_token_is_the_token() {
        let token = |uri, header| of(uri, header).into_iter().find(|(k, _)| k == "token").map(|(_, v)| v);
        assert_eq!(token("/a?token=url", Some("bearer  abc ")).as_deref(), Some("abc"));
        assert_eq!(token("/a?token=url", Some("Basic abc")).as_deref(), Some("url"));
        assert_eq!(token("/a", Some("Bearer ")), None);
    }
}
