//! Parquet writer: columns are optional 64-bit integers or optional UTF-8 text.

use std::fs::File;
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use serde_json::Value;

use crate::cli::exit::Exit;
use crate::codes::Code;

/// A column: its name, and whether it is a number.
pub(crate) type Column = (&'static str, bool);

/// Rows per row group, and bytes of text that end one early.
const GROUP_LEN: usize = 65_536;
const GROUP_BYTES: usize = 32 << 20;

/// A file under construction.
pub(crate) struct ParquetFile {
    writer: SerializedFileWriter<File>,
    columns: Vec<Values>,
    names: Vec<&'static str>,
    len: usize,
    bytes: usize,
}

/// Values of one column in the current row group, with a definition level per row (0 means absent).
enum Values {
    Numbers(Vec<i64>, Vec<i16>),
    Texts(Vec<ByteArray>, Vec<i16>),
}

fn failed(error: ParquetError) -> Exit {
    Exit::new(Code::Io, format!("cannot write Parquet: {error}"))
}

impl ParquetFile {
    pub(crate) fn new(file: File, columns: Vec<Column>) -> Result<Self, Exit> {
        let fields: String = columns
            .iter()
            .map(|(name, is_number)| match is_number {
                true => format!("optional int64 {name};"),
                false => format!("optional binary {name} (utf8);"),
            })
            .collect();
        let schema = parse_message_type(&format!("message outcomes {{ {fields} }}")).map_err(failed)?;
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let writer = SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties)).map_err(failed)?;
        let values = columns.iter().map(|(_, is_number)| match is_number {
            true => Values::Numbers(Vec::new(), Vec::new()),
            false => Values::Texts(Vec::new(), Vec::new()),
        });
        let (columns, names) = (values.collect(), columns.iter().map(|(name, _)| *name).collect());
        Ok(Self { writer, columns, names, len: 0, bytes: 0 })
    }

    /// Adds a row: an object by column names.
    pub(crate) fn row(&mut self, row: &Value) -> Result<(), Exit> {
        for (name, column) in self.names.iter().zip(&mut self.columns) {
            match column {
                Values::Numbers(values, levels) => {
                    let value = row[*name].as_u64().and_then(|value| i64::try_from(value).ok());
                    levels.push(i16::from(value.is_some()));
                    values.extend(value);
                }
                Values::Texts(values, levels) => {
                    let value = row[*name].as_str();
                    levels.push(i16::from(value.is_some()));
                    self.bytes += value.map_or(0, str::len);
                    values.extend(value.map(ByteArray::from));
                }
            }
        }
        self.len += 1;
        if self.len >= GROUP_LEN || self.bytes >= GROUP_BYTES { self.group() } else { Ok(()) }
    }

    /// Writes the buffered rows as one row group.
    fn group(&mut self) -> Result<(), Exit> {
        if self.len == 0 {
            return Ok(());
        }
        let mut group = self.writer.next_row_group().map_err(failed)?;
        for column in &mut self.columns {
            let Some(mut writer) = group.next_column().map_err(failed)? else { break };
            match column {
                Values::Numbers(values, levels) => {
                    writer.typed::<Int64Type>().write_batch(values, Some(levels), None).map_err(failed)?;
                    values.clear();
                    levels.clear();
                }
                Values::Texts(values, levels) => {
                    writer.typed::<ByteArrayType>().write_batch(values, Some(levels), None).map_err(failed)?;
                    values.clear();
                    levels.clear();
                }
            }
            writer.close().map_err(failed)?;
        }
        group.close().map_err(failed)?;
        (self.len, self.bytes) = (0, 0);
        Ok(())
    }

    /// Writes the remaining rows and the footer.
    pub(crate) fn finish(mut self) -> Result<(), Exit> {
        self.group()?;
        self.writer.close().map_err(failed)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::Field;
    use serde_json::json;

    use super::*;

    #[test]
    fn rows_are_read_back_as_they_were_written() {
        let file = tempfile::tempfile().unwrap();
        let mut writer = ParquetFile::new(file.try_clone().unwrap(), vec![("index", true), ("output", false)]).unwrap();
        let rows = GROUP_LEN + 10;
        for index in 0..rows {
            let output = if index % 3 == 0 { Value::Null } else { json!(format!("ä{index}")) };
            writer.row(&json!({ "index": index, "output": output })).unwrap();
        }
        writer.finish().unwrap();
        let reader = SerializedFileReader::new(file).unwrap();
        assert_eq!(reader.metadata().num_row_groups(), 2);
        let mut count = 0;
        for (index, row) in reader.get_row_iter(None).unwrap().enumerate() {
            let row = row.unwrap();
            let fields: Vec<&Field> = row.get_column_iter().map(|(_, field)| field).collect();
            assert_eq!(fields[0], &Field::Long(index as i64));
            let output = if index % 3 == 0 { Field::Null } else { Field::Str(format!("ä{index}")) };
            assert_eq!(fields[1], &output);
            count += 1;
        }
        assert_eq!(count, rows);
    }
}
