//! The labels of a classifier.

use std::collections::BTreeMap;

/// The names of labels. Models of other kinds have entries too, without a meaning.
#[derive(Debug, Default)]
pub(super) struct Labels {
    names: BTreeMap<u32, String>,
    /// Whether a text may have several labels.
    pub several: bool,
}

impl Labels {
    /// Makes labels of their names by place.
    pub(crate) fn new(names: BTreeMap<u32, String>, several: bool) -> Self {
        Self { names, several }
    }

    /// Returns the names in order; a label without one has the default name of Transformers.
    pub(crate) fn names(&self, count: usize) -> Vec<String> {
        let name = |place: u32| self.names.get(&place).cloned().unwrap_or_else(|| format!("LABEL_{place}"));
        (0..u32::try_from(count).unwrap_or(u32::MAX)).map(name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_stand_in_the_order_of_their_numbers() {
        let names = [(10, "ten"), (2, "7"), (1, "one")].map(|(place, name)| (place, name.to_owned()));
        let labels = Labels::new(names.into(), false);
        assert_eq!(labels.names(3), ["LABEL_0", "one", "7"]);
        assert_eq!(labels.names(11)[10], "ten");
        assert_eq!(Labels::default().names(2), ["LABEL_0", "LABEL_1"]);
    }
}
