use super::*;
use crate::rows::HEAD;

fn problems(rows: &[&str]) -> Vec<(u64, Problem)> {
    let cleaned = clean(Chunk { first_line: 10, text: rows.join("\n") });
    cleaned.rejected.into_iter().map(|rejected| (rejected.line, rejected.problem)).collect()
}

#[test]
fn a_clean_line_is_an_airport() {
    let text = "00M, Thigpen ,\"Bay Springs, the city\",MS,USA,31.95,-89.23\r\n\n".to_owned();
    let cleaned = clean(Chunk { first_line: 2, text });
    assert_eq!(cleaned.rejected, []);
    assert_eq!(
        (cleaned.airports[0].name.as_str(), cleaned.airports[0].city.as_str()),
        ("Thigpen", "Bay Springs, the city")
    );
    assert_eq!(cleaned.airports[0].latitude, 31.95);
}

#[test]
fn a_wrong_line_is_told_by_number_and_reason() {
    let column = |name: &str| name.to_owned();
    assert_eq!(
        problems(&[
            "1,2,3",
            "C,N,NA,NA,USA,1,1",
            "C,N,A,S,USA,x,1",
            "C,N,A,S,USA,91,1",
            "C,N,A,S,USA,1,NaN",
            "C,\"N,A,S,USA,1,1",
            "C,N,A,S,USA,1,1",
        ]),
        [
            (10, Problem::Columns { found: 3 }),
            (11, Problem::Missing { column: column("city") }),
            (12, Problem::NotANumber { column: column("latitude"), value: column("x") }),
            (13, Problem::OutOfRange { column: column("latitude"), value: 91.0 }),
            (14, Problem::NotANumber { column: column("longitude"), value: column("NaN") }),
            (15, Problem::Columns { found: 2 }),
        ]
    );
}

#[test]
fn a_file_is_cleaned_in_chunks_and_summed_up_by_state() {
    let rows: String = (0..1_201).map(|n| format!("C{n},N{n},A,{},USA,{},1\n", ["MS", "AK"][n % 2], n % 90)).collect();
    let report = etl(format!("{HEAD}\n{rows}short\n").into()).expect("it is cleaned");
    assert_eq!((report.airports, report.rejected_count), (1_201, 1));
    assert_eq!(report.rejected, [Rejected { line: 1_203, problem: Problem::Columns { found: 1 } }]);
    let alaska = &report.states["AK"];
    assert_eq!((alaska.airports, alaska.northernmost.as_str(), alaska.latitude_max), (600, "N89", 89.0));
    assert!(report.failed.is_empty());
}

#[test]
fn another_file_is_refused() {
    let failure = etl("a,b\n1,2\n".into()).expect_err("it has another head");
    assert!(failure.is_terminal() && failure.message.contains("the head is `a,b`"), "{failure}");
    assert!(etl(vec![0xff].into()).expect_err("it is no text").is_terminal());
    assert_eq!(etl(HEAD.into()), Ok(Report::default()));
}
