//! Decompression of response bodies.

#[cfg(any(feature = "gzip", feature = "brotli"))]
use std::io::Read;

use super::{Error, Response};

/// Default `accept-encoding` of a request.
pub(super) const ACCEPT: Option<&str> = match (cfg!(feature = "gzip"), cfg!(feature = "brotli")) {
    (true, true) => Some("gzip, br"),
    (true, false) => Some("gzip"),
    (false, true) => Some("br"),
    (false, false) => None,
};

/// Decodes a body compressed in a way that this build supports, to at most `limit` bytes. Any other body stays as it
/// is.
#[cfg_attr(not(any(feature = "gzip", feature = "brotli")), expect(unused_variables, reason = "nothing is decoded"))]
pub(super) fn decode(response: Response, limit: usize) -> Result<Response, Error> {
    let encoding = response.headers.get("content-encoding").unwrap_or_default().trim().to_ascii_lowercase();
    match encoding.as_str() {
        _ if response.body.is_empty() => Ok(response),
        #[cfg(feature = "gzip")]
        "gzip" | "x-gzip" => read(response, "gzip", limit, |body| Box::new(flate2::read::MultiGzDecoder::new(body))),
        #[cfg(feature = "brotli")]
        "br" => read(response, "br", limit, |body| Box::new(brotli_decompressor::Decompressor::new(body, 4_096))),
        _ => Ok(response),
    }
}

#[cfg(any(feature = "gzip", feature = "brotli"))]
fn read(
    mut response: Response,
    encoding: &'static str,
    limit: usize,
    decoder: impl for<'a> FnOnce(&'a [u8]) -> Box<dyn Read + 'a>,
) -> Result<Response, Error> {
    let mut decoded = Vec::new();
    let outcome = decoder(&response.body).take(limit as u64 + 1).read_to_end(&mut decoded);
    if let Err(error) = outcome {
        return Err(Error::Encoding { url: response.url, encoding, reason: error.to_string() });
    }
    if decoded.len() > limit {
        return Err(Error::BodyTooLarge { url: response.url, limit_bytes: limit as u64 });
    }
    response.body = decoded;
    // Both describe the compressed body.
    response.headers.remove("content-encoding");
    response.headers.remove("content-length");
    Ok(response)
}

#[cfg(all(test, feature = "gzip"))]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(body: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(body).expect("a vector takes everything");
        encoder.finish().expect("a vector takes everything")
    }

    fn response(encoding: &str, body: Vec<u8>) -> Response {
        Response::new(200, body).with_header("Content-Encoding", encoding).with_header("content-length", "1")
    }

    #[test]
    fn a_compressed_body_is_decoded_and_its_headers_go() {
        let decoded = decode(response("gzip", gzip(b"hello")), 5).expect("it fits");
        assert_eq!(decoded.body, b"hello");
        assert_eq!((decoded.headers.get("content-encoding"), decoded.headers.get("content-length")), (None, None));
        let two_members = [gzip(b"one "), gzip(b"two")].concat();
        assert_eq!(decode(response("GZIP", two_members), 100).expect("it fits").body, b"one two");
    }

    #[test]
    fn a_bomb_is_cut_off() {
        let bomb = gzip(&vec![0; 10 << 20]);
        assert!(bomb.len() < 20_000, "{}", bomb.len());
        let error = decode(response("gzip", bomb), 1 << 20).expect_err("it is over the limit");
        assert!(matches!(error, Error::BodyTooLarge { limit_bytes: 1_048_576, .. }), "{error}");
    }

    #[test]
    fn a_broken_body_is_an_error_and_an_unknown_one_stays() {
        let mut cut = gzip(b"hello");
        cut.truncate(cut.len() - 4);
        assert!(matches!(decode(response("gzip", cut), 100), Err(Error::Encoding { encoding: "gzip", .. })));
        assert!(matches!(decode(response("gzip", b"junk".to_vec()), 100), Err(Error::Encoding { .. })));
        assert_eq!(decode(response("zstd", b"junk".to_vec()), 1).expect("it is not ours").body, b"junk");
        assert_eq!(decode(response("gzip", Vec::new()), 1).expect("nothing is nothing").body, b"");
    }

    #[cfg(feature = "brotli")]
    #[test]
    fn brotli_is_decoded_within_the_limit() {
        // "hello" as one uncompressed metablock.
        let hello = b"\x0b\x02\x80hello\x03".to_vec();
        assert_eq!(decode(response("br", hello.clone()), 5).expect("it fits").body, b"hello");
        assert!(matches!(decode(response("br", hello), 4), Err(Error::BodyTooLarge { .. })));
        assert!(matches!(decode(response("br", vec![0xff; 9]), 4), Err(Error::Encoding { encoding: "br", .. })));
    }
}
