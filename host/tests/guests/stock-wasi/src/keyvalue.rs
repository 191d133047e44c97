//! `wasi:keyvalue`'s `atomics` and `batch` by the words of its own WIT, in both drafts that are about.

use self::draft::wasi::keyvalue::{atomics as old_atomics, batch as old_batch, store as old_store};
use self::draft2::wasi::keyvalue::{atomics, batch, store};

#[allow(unsafe_code, clippy::all, reason = "generated")]
mod draft {
    wit_bindgen::generate!({ path: "../../../../wit/deps/keyvalue", world: "wasi:keyvalue/imports", generate_all });
}

#[allow(unsafe_code, clippy::all, reason = "generated")]
mod draft2 {
    wit_bindgen::generate!({ path: "../../../../wit/deps/keyvalue-draft2", world: "wasi:keyvalue/imports", generate_all });
}

const MIB: usize = 1 << 20;

pub fn answer(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    match parts[..] {
        ["draft", "increment", delta] => {
            let bucket = old_store::open("counts").unwrap();
            format!("{:?}", old_atomics::increment(&bucket, "n", delta.parse().unwrap()))
        }
        ["draft2", "increment", delta] => {
            let bucket = store::open("counts").unwrap();
            format!("{:?}", atomics::increment(&bucket, "n", delta.parse().unwrap()))
        }
        ["draft", "batch"] => {
            let (bucket, keys) = (old_store::open("batches").unwrap(), ["a".to_owned(), "b".to_owned()]);
            old_batch::set_many(&bucket, &keys.each_ref().map(|key| (key.clone(), vec![1]))).unwrap();
            old_batch::delete_many(&bucket, &keys[1..]).unwrap();
            format!("{:?}", old_batch::get_many(&bucket, &keys).unwrap())
        }
        ["draft2", "batch"] => {
            let (bucket, keys) = (store::open("batches").unwrap(), ["a".to_owned(), "b".to_owned()]);
            batch::set_many(&bucket, &keys.each_ref().map(|key| (key.clone(), vec![1]))).unwrap();
            batch::delete_many(&bucket, &keys[1..]).unwrap();
            format!("{:?}", batch::get_many(&bucket, &keys).unwrap())
        }
        ["draft2", "swap"] => swap(),
        ["draft2", "hoard"] => {
            let bucket = eight_mib();
            let handles: Vec<_> = (0..100).map(|_| atomics::Cas::new(&bucket, "k").unwrap()).collect();
            format!("{} handles", handles.len())
        }
        ["draft2", "in-turn"] => {
            let bucket = eight_mib();
            (0..100).for_each(|_| drop(atomics::Cas::new(&bucket, "k").unwrap()));
            "800 MiB in turn".to_owned()
        }
        _ => format!("nothing at {path}"),
    }
}

/// A bucket with a value as large as may be.
fn eight_mib() -> store::Bucket {
    let bucket = store::open("large").unwrap();
    bucket.set("k", &vec![0; 8 * MIB]).unwrap();
    bucket
}

fn swap() -> String {
    let bucket = store::open("swaps").unwrap();
    let (one, two) = (atomics::Cas::new(&bucket, "k").unwrap(), atomics::Cas::new(&bucket, "k").unwrap());
    let before = one.current().unwrap();
    atomics::swap(one, b"one").unwrap();
    let Err(atomics::CasError::CasFailed(newer)) = atomics::swap(two, b"two") else {
        return "a swap over a newer value".to_owned();
    };
    let lost_to = String::from_utf8(newer.current().unwrap().unwrap()).unwrap();
    atomics::swap(newer, b"two").unwrap();
    let last = String::from_utf8(bucket.get("k").unwrap().unwrap()).unwrap();
    format!("{before:?}, then lost to {lost_to}, then {last}")
}
