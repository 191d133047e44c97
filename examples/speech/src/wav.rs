//! WAV files: samples of 16 bits, whatever else is in them.

/// A recording; channels are mixed into one.
#[derive(Debug, PartialEq)]
pub struct Wav {
    /// Samples a second.
    pub rate: u32,
    /// From -1 to 1.
    pub samples: Vec<f32>,
}

/// Bytes that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WavError {
    NotWav,
    Cut,
    NoSamples,
    /// Its number in the header; 1 is plain samples.
    Coding(u16),
    Bits(u16),
}

impl std::error::Error for WavError {}

impl std::fmt::Display for WavError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotWav => write!(f, "this is no WAV file"),
            Self::Cut => write!(f, "the WAV file is cut off"),
            Self::NoSamples => write!(f, "the WAV file has no samples"),
            Self::Coding(coding) => write!(f, "the WAV file is of coding {coding}; only plain samples (1) are read"),
            Self::Bits(bits) => write!(f, "the samples have {bits} bits; only 16 are read"),
        }
    }
}

impl Wav {
    /// Reads a file: a head, then parts that each say what they are and how long.
    pub fn parse(bytes: &[u8]) -> Result<Self, WavError> {
        let mut rest = match bytes.split_at_checked(12) {
            Some((head, rest)) if head.starts_with(b"RIFF") && head.ends_with(b"WAVE") => rest,
            _ => return Err(WavError::NotWav),
        };
        let mut format = None;
        while let Some((head, after)) = rest.split_first_chunk::<8>() {
            let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
            let part = after.get(..length).ok_or(WavError::Cut)?;
            match (&head[..4], format) {
                (b"fmt ", _) => format = Some(Format::parse(part)?),
                (b"data", Some(format)) => return format.read(part),
                _ => {}
            }
            // Parts begin at even places.
            rest = after.get(length + length % 2..).unwrap_or_default();
        }
        Err(WavError::NoSamples)
    }
}

#[derive(Clone, Copy)]
struct Format {
    channels: usize,
    rate: u32,
}

impl Format {
    fn parse(part: &[u8]) -> Result<Self, WavError> {
        let head = part.first_chunk::<16>().ok_or(WavError::Cut)?;
        let short = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
        match (short(0), short(2), short(14)) {
            (1, 1.., 16) => {
                let rate = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
                Ok(Self { channels: short(2).into(), rate })
            }
            (1, 0, _) => Err(WavError::NoSamples),
            (1, _, bits) => Err(WavError::Bits(bits)),
            (coding, ..) => Err(WavError::Coding(coding)),
        }
    }

    fn read(self, data: &[u8]) -> Result<Wav, WavError> {
        let frames = data.chunks_exact(2 * self.channels);
        let mixed = frames.map(|frame| {
            let sum: f32 = frame
                .chunks_exact(2)
                .map(|sample| f32::from(i16::from_le_bytes([sample[0], sample[1]])) / 32_768.0)
                .sum();
            sum / self.channels as f32
        });
        let samples: Vec<f32> = mixed.collect();
        if samples.is_empty() { Err(WavError::NoSamples) } else { Ok(Wav { rate: self.rate, samples }) }
    }
}
