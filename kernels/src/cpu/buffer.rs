//! f32 values that start on a cache line.
#![expect(unsafe_code, reason = "a view of cache lines as their values")]

/// A growable run of f32 values, aligned to 64 bytes so that no vector load crosses a cache line.
#[derive(Debug, Default, Clone)]
pub(crate) struct Buffer {
    lines: Vec<Line>,
}

#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; LINE_LEN]);

const LINE_LEN: usize = 16;

impl Buffer {
    /// A buffer of at least `len` zeros.
    pub(crate) fn zeroed(len: usize) -> Self {
        Self { lines: vec![Line([0.0; LINE_LEN]); len.div_ceil(LINE_LEN)] }
    }

    /// Grows to at least `len` values; old values stay.
    pub(crate) fn reserve(&mut self, len: usize) {
        let lines = len.div_ceil(LINE_LEN);
        if lines > self.lines.len() {
            self.lines.resize(lines, Line([0.0; LINE_LEN]));
        }
    }

    pub(crate) fn as_slice(&self) -> &[f32] {
        // SAFETY: a `Line` is exactly 16 f32 values without padding.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.lines.len() * LINE_LEN) }
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [f32] {
        // SAFETY: a `Line` is exactly 16 f32 values without padding, and every bit pattern is a value.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.lines.len() * LINE_LEN) }
    }
}
