//! Text of response bodies: its encoding, from the header, the byte order mark or the HTML, and its decoding.

use super::{Error, Response};

/// Returns the text of a body; an error where a byte does not belong to its encoding.
pub(super) fn decode(response: Response) -> Result<String, Error> {
    #[cfg(feature = "charsets")]
    {
        let encoding = legacy::encoding(&response);
        if encoding != encoding_rs::UTF_8 {
            let text = encoding.decode_with_bom_removal(&response.body);
            return match text {
                (text, false) => Ok(text.into_owned()),
                (_, true) => Err(Error::Text { url: response.url, charset: encoding.name() }),
            };
        }
    }
    utf8(response)
}

/// Returns the text of a body, with U+FFFD for what does not belong to its encoding.
pub(super) fn decode_lossy(response: &Response) -> String {
    #[cfg(feature = "charsets")]
    {
        let encoding = legacy::encoding(response);
        if encoding != encoding_rs::UTF_8 {
            return encoding.decode_with_bom_removal(&response.body).0.into_owned();
        }
    }
    String::from_utf8_lossy(response.body.strip_prefix(UTF8_BOM).unwrap_or(&response.body)).into_owned()
}

const UTF8_BOM: &[u8] = b"\xef\xbb\xbf";

/// Without a copy, unless there is a byte order mark.
fn utf8(response: Response) -> Result<String, Error> {
    let Response { url, mut body, .. } = response;
    if body.starts_with(UTF8_BOM) {
        body.drain(..UTF8_BOM.len());
    }
    String::from_utf8(body).map_err(|_| Error::Text { url, charset: "UTF-8" })
}

#[cfg(feature = "charsets")]
mod legacy {
    use encoding_rs::{Encoding, UTF_8, WINDOWS_1252, X_USER_DEFINED};

    use super::Response;

    /// Bytes of an HTML page that are searched for its encoding, as in browsers.
    const META_BYTES_MAX: usize = 1_024;

    /// Returns the encoding of a body. Unknown names are passed over.
    pub(super) fn encoding(response: &Response) -> &'static Encoding {
        let content_type = response.headers.get("content-type");
        if let Some(encoding) = content_type.and_then(|value| of_content_type(value.as_bytes())) {
            return encoding;
        }
        if let Some((encoding, _)) = Encoding::for_bom(&response.body) {
            return encoding;
        }
        match is_html(content_type) {
            true => of_html(&response.body[..response.body.len().min(META_BYTES_MAX)]).unwrap_or(UTF_8),
            false => UTF_8,
        }
    }

    /// Without a type, the body may be HTML.
    fn is_html(content_type: Option<&str>) -> bool {
        let essence = content_type.map(|value| value.split(';').next().unwrap_or_default().trim());
        essence.is_none_or(|essence| {
            essence.is_empty()
                || essence.eq_ignore_ascii_case("text/html")
                || essence.eq_ignore_ascii_case("application/xhtml+xml")
        })
    }

    /// Returns the encoding that the parameter `charset` names.
    fn of_content_type(value: &[u8]) -> Option<&'static Encoding> {
        let mut parameters = value.split(|byte| *byte == b';').skip(1);
        parameters.find_map(|parameter| {
            let equals = parameter.iter().position(|byte| *byte == b'=')?;
            let (name, value) = (parameter[..equals].trim_ascii(), parameter[equals + 1..].trim_ascii());
            name.eq_ignore_ascii_case(b"charset").then(|| Encoding::for_label(unquoted(value)))?
        })
    }

    fn unquoted(value: &[u8]) -> &[u8] {
        match value {
            [quote @ (b'"' | b'\''), inner @ .., end] if quote == end => inner,
            value => value,
        }
    }

    /// Returns the encoding of the first `<meta>` that names one.
    fn of_html(html: &[u8]) -> Option<&'static Encoding> {
        let mut rest = html;
        while let Some(start) = rest.iter().position(|byte| *byte == b'<') {
            rest = &rest[start + 1..];
            if let Some(comment) = rest.strip_prefix(b"!--") {
                // A comment ends at the first `-->`, whose hyphens may be those of its start.
                let end = rest[1..].windows(3).position(|window| window == b"-->");
                rest = end.map_or(&comment[comment.len()..], |end| &rest[end + 4..]);
            } else if let Some((name, attributes)) = rest.split_at_checked(4)
                && name.eq_ignore_ascii_case(b"meta")
                && attributes.first().is_some_and(|byte| byte.is_ascii_whitespace() || *byte == b'/')
            {
                let (found, behind) = of_meta(attributes);
                if found.is_some() {
                    return found;
                }
                rest = behind;
            }
        }
        None
    }

    /// Reads the attributes of a `<meta>`; returns the encoding, and the bytes after the tag.
    fn of_meta(mut rest: &[u8]) -> (Option<&'static Encoding>, &[u8]) {
        let (mut charset, mut content, mut is_content_type) = (None, None, false);
        while let Some((name, value, behind)) = attribute(rest) {
            rest = behind;
            if name.eq_ignore_ascii_case(b"charset") {
                charset = charset.or(Some(value));
            } else if name.eq_ignore_ascii_case(b"content") {
                content = content.or(Some(value));
            } else if name.eq_ignore_ascii_case(b"http-equiv") {
                is_content_type = value.eq_ignore_ascii_case(b"content-type");
            }
        }
        // A tag that is cut off may say something else further on.
        if rest.iter().find(|byte| !is_between(byte)) != Some(&b'>') {
            return (None, rest);
        }
        let found = match charset {
            Some(label) => Encoding::for_label(label),
            None => content.filter(|_| is_content_type).and_then(of_content_type),
        };
        (found.map(readable), rest)
    }

    /// Returns the encoding in which a page can be whose `<meta>` was read as ASCII.
    fn readable(encoding: &'static Encoding) -> &'static Encoding {
        match encoding {
            utf16 if !utf16.is_ascii_compatible() && utf16.output_encoding() == UTF_8 => UTF_8,
            encoding if encoding == X_USER_DEFINED => WINDOWS_1252,
            encoding => encoding,
        }
    }

    fn is_between(byte: &u8) -> bool {
        byte.is_ascii_whitespace() || *byte == b'/'
    }

    /// Returns the next attribute of a tag, and the bytes after it; `None` at the end of the tag.
    fn attribute(rest: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
        let rest = &rest[rest.iter().position(|byte| !is_between(byte))?..];
        if rest[0] == b'>' {
            return None;
        }
        // An equals sign belongs to the name if it comes first.
        let name_len = 1 + rest[1..]
            .iter()
            .position(|byte| is_between(byte) || matches!(byte, b'=' | b'>'))
            .unwrap_or(rest.len() - 1);
        let (name, rest) = rest.split_at(name_len);
        let Some(value) = rest.trim_ascii_start().strip_prefix(b"=") else {
            return Some((name, &[], rest));
        };
        let value = value.trim_ascii_start();
        if let Some(quote @ (b'"' | b'\'')) = value.first() {
            let len = value[1..].iter().position(|byte| byte == quote)?;
            return Some((name, &value[1..=len], &value[len + 2..]));
        }
        let len = value.iter().position(|byte| byte.is_ascii_whitespace() || *byte == b'>').unwrap_or(value.len());
        Some((name, &value[..len], &value[len..]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(content_type: &str, body: &[u8]) -> Response {
        Response::new(200, body).with_header("content-type", content_type)
    }

    #[track_caller]
    fn check(content_type: &str, body: &[u8], expected: &str) {
        let response = page(content_type, body);
        assert_eq!(response.clone().text_lossy(), expected, "lossy");
        assert_eq!(response.text().expect("it is text"), expected);
    }

    #[test]
    fn utf8_is_the_default_and_its_mark_goes() {
        check("text/plain", "caf\u{e9}".as_bytes(), "caf\u{e9}");
        check("application/json", b"\xef\xbb\xbf[]", "[]");
        check("text/html; charset=utf-8", b"\xef\xbb\xbf", "");
        assert_eq!(Response::new(200, "").text().expect("nothing is text"), "");
    }

    #[test]
    fn a_body_that_is_no_text_is_a_terminal_error_that_names_the_other_methods() {
        let mut image = page("image/jpeg", b"\xff\xd8x");
        image.url = "https://example.com/a.jpg".to_owned();
        assert_eq!(image.clone().text_lossy(), "\u{fffd}\u{fffd}x");
        let error = image.text().expect_err("it is an image");
        assert!(error.is_terminal());
        assert_eq!(
            error.to_string(),
            "the body of `https://example.com/a.jpg` is not UTF-8; `.bytes()` returns it as it is, `.text_lossy()` \
             with U+FFFD for what cannot be read"
        );
        assert_eq!(crate::Failure::from(error).code, crate::Code::Terminal);
    }

    #[cfg(feature = "charsets")]
    mod charsets {
        use super::*;

        #[test]
        fn the_header_names_the_encoding() {
            check("text/html; charset=iso-8859-1", b"caf\xe9 \x93x\x94", "caf\u{e9} \u{201c}x\u{201d}");
            check("text/plain;charset=\"Shift_JIS\"", b"\x93\xfa\x96{", "\u{65e5}\u{672c}");
            check("text/plain; format=flowed; CharSet = 'windows-1251'", b"\xcf\xf0", "\u{41f}\u{440}");
            check("text/plain; charset=utf-16le", b"\xff\xfeh\0i\0", "hi");
            check("text/plain; charset=gb2312", b"\xd6\xd0", "\u{4e2d}");
            // Names that nobody knows are passed over.
            check("text/html; charset=none", b"<meta charset=latin1>\xe9", "<meta charset=latin1>\u{e9}");
            check("text/plain; charset=", b"x", "x");
        }

        #[test]
        fn the_header_is_before_the_mark_and_the_mark_before_the_page() {
            check("text/html; charset=latin1", b"\xef\xbb\xbf", "\u{ef}\u{bb}\u{bf}");
            check("text/html", b"\xef\xbb\xbf<meta charset=latin1>\xc3\xa9", "<meta charset=latin1>\u{e9}");
            check("text/plain", b"\xfe\xff\0h", "h");
        }

        #[test]
        fn an_html_page_names_its_own() {
            for head in [
                "<meta charset=iso-8859-1>",
                "<!doctype html><html><head><META  name=x Charset = 'ISO-8859-1' />",
                "<meta http-equiv=\"Content-Type\" content=\"text/html; charset=iso-8859-1\">",
                "<meta content='text/html;charset=iso-8859-1' http-equiv=content-type>",
                "<!-- <meta charset=utf-8> --><meta charset=\"latin1\">",
                "<!--><meta charset=\"latin1\">",
                "<meta name=\"a>b\" content=\"charset=utf-8\"><metadata charset=utf-8><meta/charset=latin1>",
                "<meta charset=nobody><meta charset=x-user-defined>",
            ] {
                let body = [head.as_bytes(), b"\xe9"].concat();
                check("text/html", &body, &format!("{head}\u{e9}"));
                check("", &body, &format!("{head}\u{e9}"));
                assert!(page("text/plain", &body).text().is_err(), "plain text has no elements");
            }
            check("text/html", "<meta charset=utf-16>\u{e9}".as_bytes(), "<meta charset=utf-16>\u{e9}");
        }

        #[test]
        fn a_name_behind_the_first_kilobyte_is_too_late() {
            let late = [" ".repeat(1_024).as_bytes(), b"<meta charset=latin1>\xe9"].concat();
            assert!(page("text/html", &late).text().is_err());
        }

        #[test]
        fn tags_that_are_cut_off_name_nothing() {
            let whole = b"<!-- - --><meta http-equiv=content-type content='text/html; charset=latin1'><meta";
            for len in 0..whole.len() {
                let cut = [&whole[..len], b"\xc3\xa9"].concat();
                let text = page("text/html", &cut).text_lossy();
                let is_named = len > whole.len() - 6;
                assert_eq!(text.ends_with("\u{c3}\u{a9}"), is_named, "{text}");
            }
        }

        #[test]
        fn a_byte_that_the_named_encoding_does_not_have_is_an_error() {
            let error = page("text/plain; charset=shift_jis", b"\xff").text().expect_err("no such character");
            assert!(error.to_string().contains("is not Shift_JIS"), "{error}");
            assert_eq!(page("text/plain; charset=shift_jis", b"a\xff").text_lossy(), "a\u{fffd}");
        }
    }
}
