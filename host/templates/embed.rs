//! Finds the texts nearest in meaning to a query. Try it, from this folder:
//! `bireme models pull all-minilm-l6-v2`, then
//! `bireme run .::nearest --query "a boat" --texts '["a galley", "a tax form"]'`, and `cargo test`.

use bireme_sdk::prelude::*;

const MODEL: &str = "all-minilm-l6-v2";

/// A text, and how near it is to the query: 1 means the same.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Hit {
    pub text: String,
    pub score: f32,
}

/// Sorts texts by how near they are to the query.
#[function(timeout = "1m", models = ["all-minilm-l6-v2"])]
pub fn nearest(query: String, texts: Vec<String>) -> Result<Vec<Hit>> {
    let query = model(MODEL).embed_flat(&[query])?.values;
    let vectors = model(MODEL).embed(&texts)?;
    let mut hits: Vec<Hit> = texts
        .into_iter()
        .zip(vectors)
        .map(|(text, vector)| Hit {
            text,
            score: vector.dot(&query),
        })
        .collect();
    hits.sort_by(|a, b| b.score.total_cmp(&a.score));
    Ok(hits)
}

#[test]
fn the_nearest_comes_first() {
    let _model = bireme_sdk::testing::with_model(MODEL, 1, |text| vec![text.len() as f32]);
    let hits = nearest("q".to_owned(), vec!["a".to_owned(), "abc".to_owned()]).unwrap();
    assert_eq!(hits[0].text, "abc");
}
