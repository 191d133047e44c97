use bireme_sdk::testing;

use super::*;
use crate::wav::WavError;

/// A WAV file of these samples.
fn wav(rate: u32, channels: u16, samples: &[i16]) -> Vec<u8> {
    let data: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
    let mut file = b"RIFF\0\0\0\0WAVE".to_vec();
    // A part that nobody needs, of an odd length.
    file.extend(b"note\x03\0\0\0abc\0fmt \x10\0\0\0\x01\0");
    file.extend(channels.to_le_bytes());
    file.extend(rate.to_le_bytes());
    file.extend([0; 6]);
    file.extend(16u16.to_le_bytes());
    file.extend(b"data");
    file.extend((data.len() as u32).to_le_bytes());
    file.extend(data);
    file
}

#[test]
fn channels_are_mixed() {
    let read = Wav::parse(&wav(8_000, 2, &[16_384, 0, -16_384, -16_384])).unwrap();
    assert_eq!(read, Wav { rate: 8_000, samples: vec![0.25, -0.5] });
}

#[test]
fn what_is_no_wav_is_refused_by_name() {
    assert_eq!(Wav::parse(b"RIFF"), Err(WavError::NotWav));
    assert_eq!(Wav::parse(b"RIFF\0\0\0\0WAVE"), Err(WavError::NoSamples));
    let file = wav(16_000, 1, &[1, 2, 3]);
    for end in 12..file.len() {
        assert!(matches!(Wav::parse(&file[..end]), Err(WavError::Cut | WavError::NoSamples)), "{end}");
    }
    let mut floats = file;
    floats[32] = 3;
    assert_eq!(Wav::parse(&floats), Err(WavError::Coding(3)));
    let failure = speech(wav(44_100, 1, &[0]).into()).unwrap_err();
    assert!(failure.is_terminal() && failure.to_string().contains("44100 samples a second"), "{failure}");
}

#[test]
fn loud_pieces_are_joined_over_short_pauses() {
    // A model that hears loudness and counts what it heard.
    let _model = testing::with_infer("silero-vad", |inputs| {
        let window = inputs[0].values::<f32>()?;
        assert_eq!(window.len(), BEFORE + PIECE);
        let count = inputs[1].values::<f32>()?[0] + 1.0;
        let mut state = [0.0f32; 256];
        state[0] = count;
        Ok(vec![Tensor::new("output", &[1, 1], &[window[BEFORE]])?, Tensor::new("stateN", &[2, 1, 128], &state)?])
    });
    let pieces = [0, 1, 1, 0, 0, 1, 0, 0, 0, 1];
    let samples: Vec<i16> = pieces.iter().flat_map(|&loud| vec![loud * 30_000; PIECE]).collect();
    let seconds = |piece: usize| (piece * PIECE) as f64 / 16_000.0;
    let found = speech(wav(RATE, 1, &samples[..samples.len() - 100]).into()).unwrap();
    let expected = [(1, 6), (9, 10)].map(|(from, to)| Speech { from: seconds(from), to: seconds(to) });
    assert_eq!(found, expected);
}
