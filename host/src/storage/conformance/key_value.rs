//! Promises of `KeyValue`.

use bytes::Bytes;
use futures_util::future::join_all;

use super::super::{Increment, Incremented, Place, Storage};
use super::Engine;
use super::fixtures::*;
use crate::ids::AppName;

fn place<'a>(app: &'a AppName, bucket: &'a str, key: &'a str) -> Place<'a> {
    Place { app, bucket, key }
}

async fn get(storage: &Storage, place: Place<'_>) -> Option<Bytes> {
    storage.key_value.get(place).await.unwrap()
}

async fn set(storage: &Storage, place: Place<'_>, value: &'static str) {
    storage.key_value.set(place, value.into()).await.unwrap();
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
        assert_eq!(storage.key_value.keys(app, bucket, None, 10).await.unwrap(), [""; 0]);
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
    let keys = async |after, limit| storage.key_value.keys(&app, "x", after, limit).await.unwrap();
    assert_eq!(keys(None, 10).await, sorted);
    assert_eq!(keys(None, 3).await, sorted[..3]);
    assert_eq!(keys(Some("a"), 2).await, ["a\0", "aa"]);
    assert_eq!(keys(Some("aaa"), 10).await, sorted[5..], "a cursor need not be there");
    assert_eq!(keys(Some("日"), 10).await, [""; 0]);
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
