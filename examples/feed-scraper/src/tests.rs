use bireme_sdk::{Code, testing};

use super::*;

const RSS: &str = include_str!("../feeds/harbour.rss");
const ATOM: &str = include_str!("../feeds/weather.atom");

/// Both feeds, at any time; anything else is gone.
fn site() -> testing::Guard {
    testing::with_http(|request| {
        Ok(match request.url() {
            "https://harbour.example/rss" => http::Response::new(200, RSS),
            "https://weather.example/atom" => http::Response::new(200, ATOM),
            "https://weather.example/page" => http::Response::new(200, "<html><p>no feed</p></html>"),
            _ => http::Response::new(404, ""),
        })
    })
}

fn urls(urls: &[&str]) -> Vec<String> {
    urls.iter().map(ToString::to_string).collect()
}

#[test]
fn rss_and_atom_are_read_alike() {
    let _site = site();
    let harbour = fetch("https://harbour.example/rss".to_owned()).expect("it is a feed");
    assert_eq!(harbour.title, "Harbour news");
    assert_eq!(
        harbour.items[0],
        Item {
            id: "harbour-2".to_owned(),
            title: "A bireme & two triremes".to_owned(),
            link: Some("https://harbour.example/2".to_owned()),
            published: Some("2026-11-24T05:30:00+00:00".to_owned()),
        }
    );
    assert_eq!(harbour.items[1].published, None);
    let weather = fetch("https://weather.example/atom".to_owned()).expect("it is a feed");
    assert_eq!((weather.items.len(), weather.items[0].id.as_str()), (1, "urn:weather:7"));
}

#[test]
fn what_is_no_feed_is_terminal() {
    let _site = site();
    let failure = fetch("https://weather.example/page".to_owned()).expect_err("it is a page");
    assert_eq!(failure.code, Code::Terminal);
    assert!(failure.message.contains("`https://weather.example/page` is no feed"), "{failure}");
}

#[test]
fn only_what_is_new_is_news_and_a_feed_that_fails_holds_none_up() {
    let (_site, _kv) = (site(), testing::with_kv());
    let all = urls(&["https://harbour.example/rss", "https://gone.example/", "https://weather.example/atom"]);
    let first = news(all.clone()).expect("one feed that fails is no failure");
    let ids: Vec<&str> = first.fresh.iter().map(|item| item.id.as_str()).collect();
    assert_eq!(ids, ["harbour-2", "harbour-1", "urn:weather:7"]);
    assert_eq!(first.failed[0].url, "https://gone.example/");
    assert!(first.failed[0].reason.contains("status 404"), "{:?}", first.failed);
    let second = news(all).expect("as before");
    assert_eq!((second.fresh.len(), second.failed.len()), (0, 1));
}

#[test]
fn the_morning_looks_at_the_configured_feeds() {
    let (_site, _kv) = (site(), testing::with_kv());
    assert_eq!(every_morning(), Ok(News::default()));
    let _config = testing::with_config([("feeds", r#"["https://weather.example/atom"]"#)]);
    assert_eq!(every_morning().map(|news| news.fresh.len()), Ok(1));
}
