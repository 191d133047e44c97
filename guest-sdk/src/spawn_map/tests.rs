use std::cell::Cell;

use super::*;
use crate::prelude::*;
use crate::{Code, Failure};

#[function]
fn kept_plus_one(n: u64) -> Result<u64> {
    if n % 10 == 9 {
        return Err(Failure::terminal(format!("{n} ends in 9")));
    }
    Ok(n + 1)
}

#[function]
fn kept_join(left: String, right: String) -> String {
    left + &right
}

#[function]
fn all_of(numbers: Vec<u64>) -> Result<u64> {
    kept_plus_one::spawn_map(numbers)?.iter()?.sum()
}

fn strings(texts: [&str; 2]) -> [String; 2] {
    texts.map(str::to_owned)
}

#[test]
fn results_are_addressed_by_position_in_any_order_and_as_often_as_is_wanted() {
    let map = kept_plus_one::spawn_map(0..3_000).expect("it spawns");
    assert_eq!(
        (map.get(2_999).map_err(|failure| failure.code), map.get(7), map.get(7)),
        (Err(Code::Terminal), Ok(Some(8)), Ok(Some(8)))
    );
    assert_eq!(map.get(3_000).map_err(|failure| failure.code), Err(Code::Terminal));
    assert_eq!(map.len(), Ok(3_000));
    let progress = map.progress().expect("it is there");
    assert_eq!((progress.done, progress.failed, progress.waiting()), (2_700, 300, 0));
}

#[test]
fn a_failure_ends_neither_order() {
    let map = kept_plus_one::spawn_map(8..11).expect("it spawns");
    let failure = Failure::terminal("9 ends in 9");
    assert_eq!(map.iter().expect("it reads").collect::<Vec<_>>(), [Ok(9), Err(failure.clone()), Ok(11)]);
    let completed: Vec<_> = map.as_completed().expect("it reads").collect();
    assert_eq!(completed, [(0, Ok(9)), (1, Err(failure)), (2, Ok(11))]);
}

#[test]
fn several_parameters_are_several_iterators_or_one_of_tuples() {
    let map = kept_join::spawn_map(strings(["a", "c"]), strings(["b", "d"])).expect("it spawns");
    assert_eq!(map.iter().and_then(Iterator::collect), Ok(strings(["ab", "cd"]).to_vec()));
    let pairs = [("a", "b"), ("c", "d")].map(|(a, b)| (a.to_owned(), b.to_owned()));
    let map = kept_join::spawn_starmap(pairs).expect("it spawns");
    assert_eq!(map.iter().and_then(Iterator::collect), Ok(strings(["ab", "cd"]).to_vec()));
}

#[test]
fn a_map_is_found_by_its_id_and_others_are_not() {
    let map = kept_plus_one::spawn_map([1]).expect("it spawns");
    let again = MapHandle::<u64>::open(map.id()).expect("it is there");
    assert_eq!((again.get(0), again.id()), (Ok(Some(2)), map.id()));
    assert_eq!(MapHandle::<u64>::open("no id").map(drop).map_err(|failure| failure.code), Err(Code::Terminal));
}

#[test]
fn an_input_that_cannot_be_written_cancels_the_map() {
    let drawn = Cell::new(0);
    let inputs = std::iter::from_fn(|| {
        drawn.set(drawn.get() + 1);
        Some(if drawn.get() < 5 {
            Ok(Payload { content_type: crate::payload::JSON.to_owned(), data: b"1".to_vec() })
        } else {
            Err(Failure::failed("no"))
        })
    });
    let failure = spawn_map::<u64>("kept_plus_one", inputs).map(drop);
    assert_eq!(failure.map_err(|failure| failure.to_string()), Err("input 4 of the map cannot be sent: no".to_owned()));
    assert_eq!(drawn.get(), 5);
}

#[test]
fn an_unknown_function_fails_at_once() {
    let failure = spawn_map::<u64>("no_such_function", std::iter::empty()).map(drop);
    assert_eq!(failure.map_err(|failure| failure.code), Err(Code::UnknownFunction));
}

#[test]
fn a_function_may_spawn_a_map_and_read_it() {
    assert_eq!(all_of::call(vec![1, 2, 3]), Ok(9));
    assert_eq!(all_of::spawn(vec![1, 9]).and_then(|call| call.wait()), Err(Failure::terminal("9 ends in 9")));
}
