//! Search stage: questions to the running host over HTTP, as any client sends them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::cli::exit::Exit;
use crate::codes::Code;

/// Questions for the Rust documentation.
const QUESTIONS: [&str; 3] = [
    "How can several threads share and change the same data safely?",
    "What happens to a value when its owner goes out of scope?",
    "How do I use a local copy of a dependency instead of the published one?",
];
/// Questions for any other site.
const QUESTIONS_ELSEWHERE: [&str; 3] = ["What is this about?", "How do I install it?", "How do I get help?"];
/// Hits per question.
const HITS: u32 = 3;
const TIMEOUT: Duration = Duration::from_secs(30);

/// One question with its hits.
#[derive(Debug, Serialize)]
pub(crate) struct Answer {
    pub question: String,
    pub millis: f64,
    pub hits: Vec<Hit>,
}

/// Output of `search`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Hit {
    pub url: String,
    pub title: String,
    pub heading: Vec<String>,
    pub excerpt: String,
    pub score: f32,
}

impl Answer {
    pub(crate) fn to_text(&self) -> String {
        let mut text = format!("\n? {} ({:.1} ms)", self.question, self.millis);
        for hit in &self.hits {
            let place = if hit.heading.is_empty() { hit.title.clone() } else { hit.heading.join(" › ") };
            text += &format!("\n  {:.2}  {place}\n        {}", hit.score, hit.url);
        }
        text
    }
}

/// Returns `questions`, or the default ones if there are none.
pub(crate) fn or_usual(questions: &[String], is_rust: bool) -> Vec<String> {
    let usual = if is_rust { QUESTIONS } else { QUESTIONS_ELSEWHERE };
    if questions.is_empty() { usual.map(str::to_owned).to_vec() } else { questions.to_vec() }
}

/// Asks all questions.
pub(crate) async fn ask(address: SocketAddr, questions: Vec<String>) -> Result<Vec<Answer>, Exit> {
    let asked = tokio::task::spawn_blocking(move || {
        // No proxy: the host is this process.
        let agent = ureq::Agent::new_with_config(
            ureq::Agent::config_builder().proxy(None).timeout_global(Some(TIMEOUT)).http_status_as_error(false).build(),
        );
        questions.into_iter().map(|question| ask_one(&agent, address, question)).collect()
    });
    asked.await.map_err(|error| Exit::new(Code::Io, error.to_string()))?
}

fn ask_one(agent: &ureq::Agent, address: SocketAddr, question: String) -> Result<Answer, Exit> {
    let failed = |error: ureq::Error| Exit::new(Code::Io, format!("asking `{question}` over HTTP: {error}"));
    let started = Instant::now();
    let body = serde_json::json!({ "q": question, "limit": HITS }).to_string();
    let mut response = agent
        .post(format!("http://{address}/docs-search/search"))
        .header("content-type", "application/json")
        .send(body)
        .map_err(failed)?;
    let text = response.body_mut().read_to_string().map_err(failed)?;
    let millis = started.elapsed().as_secs_f64() * 1e3;
    if !response.status().is_success() {
        return Err(Exit::new(
            Code::SearchFailed,
            format!("asking `{question}`: status {}: {text}", response.status()),
        ));
    }
    let hits = serde_json::from_str(&text).map_err(|error| {
        Exit::new(Code::BadOutput, format!("the answer to `{question}` is no list of hits: {error}"))
    })?;
    Ok(Answer { question, millis, hits })
}
