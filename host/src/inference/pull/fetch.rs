//! A download into a staging directory: each file is checked against its pinned length and hash.

use std::io::Read;

use super::error::{Attempt, SourceError};
use crate::inference::builtin_models::{BuiltinFile, BuiltinModel};
use crate::inference::catalogue::Catalogue;
use crate::inference::staging::{Staging, StagingError, WriteError};

/// Progress of a pull; called on the caller's thread, for each piece of up to 256 KiB.
pub(crate) trait PullProgress {
    /// A source is tried: `huggingface.co`, `python3 -m pip`, a directory; `failed` is the one before it.
    fn source(&mut self, name: &str, failed: Option<&Attempt>);
    /// `done` of the model's `total` bytes are written. A new source starts again at 0.
    fn bytes(&mut self, done: u64, total: u64);
}

/// A download of one model into one staging directory.
pub(super) struct Fetch<'a> {
    pub model: &'static BuiltinModel,
    pub staging: Staging,
    progress: &'a mut dyn PullProgress,
    done: u64,
}

impl<'a> Fetch<'a> {
    pub(crate) fn begin(
        catalogue: &Catalogue,
        model: &'static BuiltinModel,
        progress: &'a mut dyn PullProgress,
    ) -> Result<Self, StagingError> {
        Ok(Self { model, staging: Staging::begin(catalogue.models_dir())?, progress, done: 0 })
    }

    /// Writes every file of the model from what `open` returns for it.
    pub(crate) fn all<R: Read>(
        &mut self,
        mut open: impl FnMut(&BuiltinFile) -> Result<R, SourceError>,
    ) -> Result<(), SourceError> {
        self.model.files.iter().try_for_each(|file| {
            let reader = open(file)?;
            self.file(file, reader)
        })
    }

    /// Writes one file and checks it. A byte more than expected is read, to tell a longer file from the right one.
    pub(crate) fn file(&mut self, file: &'static BuiltinFile, reader: impl Read) -> Result<(), SourceError> {
        let (progress, total) = (&mut *self.progress, self.model.bytes());
        let done = &mut self.done;
        let written = self.staging.write(file.path, reader, file.bytes + 1, &mut |bytes| {
            *done += bytes;
            progress.bytes((*done).min(total), total);
        });
        let wrong_length = |received| SourceError::Length { file: file.path, expected: file.bytes, received };
        match written {
            Ok(written) if written.bytes != file.bytes => Err(wrong_length(written.bytes)),
            Ok(written) if written.sha256 != file.sha256 => {
                Err(SourceError::Hash { file: file.path, expected: file.sha256, actual: written.sha256 })
            }
            Ok(_) => Ok(()),
            Err(WriteError::Source { received, .. }) => Err(wrong_length(received)),
            Err(WriteError::Staging(error)) => Err(error.into()),
        }
    }
}
