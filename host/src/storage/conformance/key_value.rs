//! Promises of `KeyValue`.

use bytes::Bytes;
use futures_util::future::join_all;

use super::super::{Increment, Incremented, KeyPage, KeyQuery, Place, Storage};
use super::Engine;
use super::fixtures::*;
use crate::ids::AppName;

const STEPS_MAX: usize = 1_000;
/// A time that has passed on each engine, and one that has not.
const PAST_MS: u64 = 1;
const FUTURE_MS: u64 = u64::MAX - 1;

fn place<'a>(app: &'a AppName, bucket: &'a str, key: &'a str) -> Place<'a> {
    Place { app, bucket, key }
}

async fn get(storage: &Storage, place: Place<'_>) -> Option<Bytes> {
    storage.key_value.get(place).await.unwrap()
}

async fn set(storage: &Storage, place: Place<'_>, value: &'static str) {
    storage.key_value.set(place, value.into(), None).await.unwrap();
}

async fn set_until(storage: &Storage, place: Place<'_>, value: &'static str, expires_ms: u64) {
    storage.key_value.set(place, value.into(), Some(expires_ms)).await.unwrap();
}

/// Returns all keys of a bucket.
async fn keys(storage: &Storage, app: &AppName, bucket: &str) -> Vec<String> {
    let query = KeyQuery { app, bucket, prefix: "", after: None, len_max: 1_000, bytes_max: 1 << 20 };
    storage.key_value.keys(query).await.unwrap().keys
}

/// Takes steps until there are no more.
async fn expire(storage: &Storage) {
    for _ in 0..STEPS_MAX {
        if !storage.key_value.expire().await.unwrap() {
            return;
        }
    }
    panic!("it takes steps for ever");
}

pub(crate) async fn a_value_is_set_read_and_deleted(engine: &impl Engine) {
    let (storage, app) = (joined(engine).await, app("app"));
    let at = place(&app, "bucket", "key");
    assert_eq!((get(&storage, at).await, storage.key_value.exists(at).await.unwrap()), (None, false));
    storage.key_value.delete(at).await.unwrap();
    set(&storage, at, "1").await;
    set(&storage, at, "").await;
    assert_eq!(get(&storage, at).await, Some(Bytes::new()));
    set(&storage, at, "2").await;
    let storage = rejoined(engine, storage).await;
    assert_eq!((get(&storage, at).await, storage.key_value.exists(at).await.unwrap()), (Some("2".into()), true));
    storage.key_value.delete(at).await.unwrap();
    assert_eq!((get(&storage, at).await, storage.key_value.exists(at).await.unwrap()), (None, false));
}

pub(crate) async fn apps_and_buckets_do_not_see_each_other(engine: &impl Engine) {
    let storage = joined(engine).await;
    let (first, second) = (app("a"), app("ab"));
    set(&storage, place(&first, "x", "k"), "1").await;
    for (app, bucket) in [(&second, "x"), (&first, "xk"), (&first, "y")] {
        assert_eq!(get(&storage, place(app, bucket, "k")).await, None);
        assert_eq!(keys(&storage, app, bucket).await, [""; 0]);
        storage.key_value.delete(place(app, bucket, "k")).await.unwrap();
    }
    assert_eq!(get(&storage, place(&first, "x", "k")).await, Some("1".into()));
}

pub(crate) async fn keys_come_in_byte_order_and_behind_a_cursor(engine: &impl Engine) {
    let (storage, app) = (joined(engine).await, app("app"));
    let sorted = ["", "B", "a", "a\0", "aa", "b", "ä", "日"];
    for key in ["日", "a", "", "ä", "b", "aa", "B", "a\0"] {
        set(&storage, place(&app, "x", key), "1").await;
    }
    let page = async |prefix, after, len_max, bytes_max| {
        let query = KeyQuery { app: &app, bucket: "x", prefix, after, len_max, bytes_max };
        let KeyPage { keys, next } = storage.key_value.keys(query).await.unwrap();
        (keys, next)
    };
    let keys = async |after, len_max| page("", after, len_max, 100).await.0;
    assert_eq!(keys(None, 10).await, sorted);
    assert_eq!(keys(None, 3).await, sorted[..3]);
    assert_eq!(keys(Some("a"), 2).await, ["a\0", "aa"]);
    assert_eq!(keys(Some("aaa"), 10).await, sorted[5..], "a cursor need not be there");
    assert_eq!(keys(Some("日"), 10).await, [""; 0]);
    let of = |keys: &[&str], next: Option<&str>| {
        (keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>(), next.map(str::to_owned))
    };
    assert_eq!(page("", None, 8, 100).await, of(&sorted, None), "a full page may be the last");
    assert_eq!(page("", None, 7, 100).await, of(&sorted[..7], Some("ä")));
    assert_eq!(page("", None, 10, 4).await, of(&sorted[..4], Some("a\0")), "bytes are bounded");
    assert_eq!(page("", Some("b"), 10, 0).await, of(&["ä"], Some("ä")), "one key is always within");
    assert_eq!(page("a", None, 10, 100).await, of(&["a", "a\0", "aa"], None));
    assert_eq!(page("a", Some("a"), 1, 100).await, of(&["a\0"], Some("a\0")));
    assert_eq!(page("a", Some("B"), 10, 100).await, of(&["a", "a\0", "aa"], None), "a cursor may be before the prefix");
    assert_eq!(page("a", Some("b"), 10, 100).await, of(&[], None));
    assert_eq!(page("c", None, 10, 100).await, of(&[], None));
}

pub(crate) async fn buckets_with_a_key_are_listed(engine: &impl Engine) {
    let (storage, first, second) = (joined(engine).await, app("a"), app("ab"));
    for (app, bucket, key) in [(&first, "y", "k"), (&first, "x", ""), (&first, "x", "l"), (&second, "z", "k")] {
        set(&storage, place(app, bucket, key), "1").await;
    }
    set_until(&storage, place(&first, "xx", "k"), "1", FUTURE_MS).await;
    set_until(&storage, place(&first, "gone", "k"), "1", PAST_MS).await;
    expire(&storage).await;
    let page = async |after, len_max| {
        let KeyPage { keys, next } = storage.key_value.buckets(&first, after, len_max).await.unwrap();
        (keys, next)
    };
    assert_eq!(page(None, 3).await, (["x", "xx", "y"].map(str::to_owned).into(), None));
    assert_eq!(page(None, 1).await, (vec!["x".to_owned()], Some("x".to_owned())));
    assert_eq!(page(Some("x"), 1).await, (vec!["xx".to_owned()], Some("xx".to_owned())));
    assert_eq!(page(Some("y"), 9).await, (vec![], None));
}

pub(crate) async fn a_batch_is_read_and_written_together(engine: &impl Engine) {
    let (storage, app) = (joined(engine).await, app("app"));
    let names = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>();
    let get =
        async |keys: &[&str], bytes_max| storage.key_value.get_many(&app, "x", &names(keys), bytes_max).await.unwrap();
    set_until(&storage, place(&app, "x", "b"), "expires", FUTURE_MS).await;
    let values = [("a", "1"), ("b", "22"), ("c", ""), ("a", "333")];
    let values = values.map(|(key, value)| (key.to_owned(), Bytes::from(value)));
    storage.key_value.set_many(&app, "x", values.into()).await.unwrap();
    let storage_values = get(&["c", "none", "a", "b", "a"], 8).await.unwrap();
    assert_eq!(storage_values, [Some("".into()), None, Some("333".into()), Some("22".into()), Some("333".into())]);
    assert_eq!(get(&["c", "none", "a", "b", "a"], 7).await, None, "over the limit of bytes");
    assert_eq!(get(&[], 0).await, Some(vec![]));
    storage.key_value.delete_many(&app, "x", &names(&["a", "none", "c"])).await.unwrap();
    assert_eq!(keys(&storage, &app, "x").await, ["b"]);
    storage.key_value.set_many(&app, "x", vec![]).await.unwrap();
    storage.key_value.delete_many(&app, "x", &[]).await.unwrap();
}

pub(crate) async fn a_value_that_has_expired_is_absent(engine: &impl Engine) {
    let (storage, app) = (joined(engine).await, app("app"));
    let at = place(&app, "x", "k");
    let is_absent = async |storage: &Storage| {
        let kv = &storage.key_value;
        let many = kv.get_many(&app, "x", &["k".to_owned()], 100).await.unwrap();
        assert_eq!(many, Some(vec![get(storage, at).await]));
        let is_listed = keys(storage, &app, "x").await == ["k"];
        assert_eq!(is_listed, kv.exists(at).await.unwrap());
        assert_eq!(is_listed, get(storage, at).await.is_some());
        !is_listed
    };
    set(&storage, at, "1").await;
    set_until(&storage, at, "2", PAST_MS).await;
    assert!(is_absent(&storage).await, "also for a value that was there before");
    set_until(&storage, at, "3", FUTURE_MS).await;
    let storage = rejoined(engine, storage).await;
    assert!(!is_absent(&storage).await);
    let now_ms = storage.key_value.now_ms();
    set_until(&storage, at, "4", now_ms).await;
    assert!(is_absent(&storage).await, "from its millisecond on");
    set(&storage, at, "5").await;
    expire(&storage).await;
    assert_eq!(get(&storage, at).await, Some("5".into()), "a value without a time stays");
    set_until(&storage, at, "6", PAST_MS).await;
    expire(&storage).await;
    assert!(is_absent(&storage).await);
    assert!(!storage.key_value.expire().await.unwrap(), "nothing is left");
}

pub(crate) async fn a_value_is_there_until_its_time(engine: &impl Engine) {
    let (storage, app) = (joined(engine).await, app("app"));
    let at = place(&app, "x", "k");
    let expires_ms = storage.key_value.now_ms() + 30;
    set_until(&storage, at, "1", expires_ms).await;
    // Each engine has a clock of its own; this asks for its time before and after the value.
    loop {
        let before = storage.key_value.now_ms();
        let value = get(&storage, at).await;
        let after = storage.key_value.now_ms();
        assert!(value.is_some() || after >= expires_ms, "it is gone too early");
        assert!(value.is_none() || before < expires_ms, "it is there too long");
        if value.is_none() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}

pub(crate) async fn a_change_of_a_value_keeps_its_time_and_a_set_does_not(engine: &impl Engine) {
    let (storage, app) = (joined(engine).await, app("app"));
    let at = place(&app, "x", "k");
    let one = Increment { delta: 1, min: 0, max: 1_000 };
    let swap = async |expected: Option<&'static str>, value: &'static str| {
        storage.key_value.swap(at, expected.map(Bytes::from), value.into()).await.unwrap()
    };
    // One that has expired is absent, and what takes its place never expires.
    set_until(&storage, at, "7", PAST_MS).await;
    assert_eq!(storage.key_value.increment(at, one).await.unwrap(), Incremented::Sum(1));
    set_until(&storage, at, "7", PAST_MS).await;
    assert!(!swap(Some("7"), "8").await);
    assert!(swap(None, "8").await);
    expire(&storage).await;
    assert_eq!(get(&storage, at).await, Some("8".into()));

    let expires_ms = storage.key_value.now_ms() + 200;
    set_until(&storage, at, "1", expires_ms).await;
    let answers = (storage.key_value.increment(at, one).await.unwrap(), swap(Some("2"), "3").await);
    if storage.key_value.now_ms() >= expires_ms {
        // The machine was busy for so long that it expired in between.
        return;
    }
    assert_eq!(answers, (Incremented::Sum(2), true));
    loop {
        let before = storage.key_value.now_ms();
        if get(&storage, at).await.is_none() {
            return;
        }
        assert!(before < expires_ms, "it lost its time");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

pub(crate) async fn a_swap_needs_the_expected_value(engine: &impl Engine) {
    let (storage, app) = (joined(engine).await, app("app"));
    let at = place(&app, "x", "k");
    let swap = async |expected: Option<&'static str>, value: &'static str| {
        storage.key_value.swap(at, expected.map(Bytes::from), value.into()).await.unwrap()
    };
    assert!(!swap(Some(""), "1").await, "an absent value is not an empty one");
    assert!(swap(None, "").await);
    assert!(!swap(None, "1").await, "an empty value is not absent");
    assert!(swap(Some(""), "1").await);
    assert!(!swap(Some("2"), "3").await);
    assert_eq!(get(&storage, at).await, Some("1".into()));
    assert!(swap(Some("1"), "1").await);
}

pub(crate) async fn of_many_swaps_one_wins(engine: &impl Engine) {
    let (storage, app) = (joined(engine).await, app("app"));
    let at = place(&app, "x", "k");
    let mut expected = None;
    for round in 0..5 {
        let value = |task: usize| Bytes::from(format!("{round}-{task}"));
        let swaps = (0..8).map(|task| storage.key_value.swap(at, expected.clone(), value(task)));
        let won: Vec<bool> = join_all(swaps).await.into_iter().map(Result::unwrap).collect();
        let winners: Vec<usize> = (0..8).filter(|task| won[*task]).collect();
        let [winner] = winners[..] else { panic!("{winners:?}") };
        expected = Some(value(winner));
        assert_eq!(get(&storage, at).await, expected);
    }
}

pub(crate) async fn sums_are_exact_and_bounded(engine: &impl Engine) {
    let (storage, app) = (joined(engine).await, app("app"));
    let at = place(&app, "x", "n");
    let add = async |delta| {
        let increment = Increment { delta, min: i64::MIN.into(), max: i64::MAX.into() };
        storage.key_value.increment(at, increment).await.unwrap()
    };
    assert_eq!(add(5).await, Incremented::Sum(5), "an absent value is 0");
    assert_eq!(add(-7).await, Incremented::Sum(-2));
    assert_eq!(get(&storage, at).await, Some("-2".into()), "decimal text");
    let max = i128::from(i64::MAX);
    assert_eq!(add(max + 2).await, Incremented::Sum(max));
    assert_eq!(add(1).await, Incremented::Overflow { value: max });
    assert_eq!(get(&storage, at).await, Some(max.to_string().into()));
    set(&storage, at, "170141183460469231731687303715884105727").await;
    assert_eq!(add(1).await, Incremented::Overflow { value: i128::MAX });
    set(&storage, at, "-9223372036854775808").await;
    assert_eq!(add(-1).await, Incremented::Overflow { value: i64::MIN.into() });
    for text in ["", "x", "1.5", "1 ", "999999999999999999999999999999999999999999"] {
        set(&storage, at, text).await;
        assert_eq!(add(1).await, Incremented::NotANumber, "{text:?}");
        assert_eq!(get(&storage, at).await, Some(text.into()));
    }
}

pub(crate) async fn increments_at_once_all_count(engine: &impl Engine) {
    let (storage, app) = (joined(engine).await, app("app"));
    let at = place(&app, "x", "n");
    let one = Increment { delta: 1, min: 0, max: 1_000 };
    let sums = join_all((0..40).map(|_| storage.key_value.increment(at, one))).await;
    let mut sums: Vec<_> = sums.into_iter().map(Result::unwrap).collect();
    sums.sort_by_key(|sum| match sum {
        Incremented::Sum(sum) => *sum,
        other => panic!("{other:?}"),
    });
    assert_eq!(sums, (1..=40).map(Incremented::Sum).collect::<Vec<_>>());
}
