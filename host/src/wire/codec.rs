//! Numbers and texts of frames: their bytes, and a reader that trusts none.

use super::header::WireError;

pub(super) fn word(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(super) fn long(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(super) fn count(out: &mut Vec<u8>, count: usize) {
    word(out, u32::try_from(count).expect("whatever is sent is bounded far below"));
}

pub(super) fn text(out: &mut Vec<u8>, text: &str) {
    count(out, text.len());
    out.extend_from_slice(text.as_bytes());
}

pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(body: &'a [u8]) -> Self {
        Self { rest: body }
    }

    /// Whether all of the body was read.
    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn take(&mut self, bytes: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.rest.split_at_checked(bytes).ok_or(WireError::Body { what: "too short" })?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn word(&mut self) -> Result<u32, WireError> {
        Ok(u32::from_le_bytes(self.take(4)?.try_into().expect("four bytes")))
    }

    pub(super) fn long(&mut self) -> Result<u64, WireError> {
        Ok(u64::from_le_bytes(self.take(8)?.try_into().expect("eight bytes")))
    }

    /// Copies `count` numbers out. Nothing is allocated before the bytes are known to be there.
    pub(super) fn array<T: bytemuck::AnyBitPattern + bytemuck::NoUninit>(
        &mut self,
        count: usize,
    ) -> Result<Vec<T>, WireError> {
        let bytes = count.checked_mul(size_of::<T>()).ok_or(WireError::Body { what: "too many numbers" })?;
        Ok(bytemuck::pod_collect_to_vec(self.take(bytes)?))
    }

    pub(super) fn text(&mut self) -> Result<String, WireError> {
        let bytes = self.word()? as usize;
        let text = self.take(bytes)?;
        String::from_utf8(text.to_vec()).map_err(|_| WireError::Body { what: "text that is not UTF-8" })
    }

    /// Reads a text within a limit.
    pub(super) fn name(&mut self, bytes_max: usize) -> Result<String, WireError> {
        match self.text()? {
            name if name.len() > bytes_max => Err(WireError::Body { what: "a name that is too long" }),
            name => Ok(name),
        }
    }

    pub(super) fn flag(&mut self) -> Result<bool, WireError> {
        match self.word()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(WireError::Body { what: "a flag that is neither set nor not" }),
        }
    }

    /// Reads a count within a limit, and as many items of at least four bytes. Nothing is allocated before the bytes
    /// are known to be there.
    pub(super) fn many<T>(
        &mut self,
        max: usize,
        mut item: impl FnMut(&mut Self) -> Result<T, WireError>,
    ) -> Result<Vec<T>, WireError> {
        let count = self.word()? as usize;
        if count > max || count > self.rest.len() / 4 {
            return Err(WireError::Body { what: "too many items" });
        }
        (0..count).map(|_| item(self)).collect()
    }
}
