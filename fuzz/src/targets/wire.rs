//! Frames between host and worker, of both directions.

use bireme::wire::{Frame, HEADER_BYTES, Header};

/// A kind in the first byte, and a body. What is read is written again byte for byte.
pub(super) fn frame(input: &[u8]) -> Result<(), String> {
    if let Some((head, _)) = input.split_first_chunk::<HEADER_BYTES>()
        && let Ok(header) = Header::parse(head)
    {
        assert!(header.body_bytes <= 256 << 20, "a body of {} bytes", header.body_bytes);
    }
    let (kind, body) = input.split_first().ok_or("no kind")?;
    let kind = u32::from(*kind);
    let frame = Frame::decode(kind, body).map_err(|error| error.to_string())?;
    let mut again = Vec::new();
    frame.encode(42, &mut again);
    let (head, written) = again.split_first_chunk::<HEADER_BYTES>().expect("a frame has a header");
    assert_eq!(written, body, "a frame that was read is another one when written: {frame:?}");
    let header = Header::parse(head).expect("its own header is read");
    assert_eq!((header.kind, header.job, header.body_bytes), (kind, 42, body.len()));
    Ok(())
}
