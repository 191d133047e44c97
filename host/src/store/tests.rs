use std::ops::Bound;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::*;

fn put(key: &str, value: &str) -> Op {
    Op::Put { table: Table::KeyValue, key: key.into(), value: value.into() }
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    {
        let store = Store::open(&path).unwrap();
        let writes = (0..100).map(|i| store.write(vec![put(&format!("k{i:03}"), "v")]));
        for result in futures_util::future::join_all(writes).await {
            result.unwrap();
        }
        store.write(vec![Op::Delete { table: Table::KeyValue, key: b"k007".to_vec() }]).await.unwrap();
    }
    let store = Store::open(&path).unwrap();
    assert_eq!(store.get(Table::KeyValue, b"k042").unwrap().as_deref(), Some(&b"v"[..]));
    assert_eq!(store.get(Table::KeyValue, b"k007").unwrap(), None);
    assert_eq!(store.keys(Table::KeyValue, b"k0", None, 1_000).unwrap().len(), 99);
    assert_eq!(store.keys(Table::KeyValue, b"k0", Some(b"k097"), 10).unwrap(), [b"k098".to_vec(), b"k099".to_vec()]);
    assert_eq!(store.keys(Table::KeyValue, b"k09", None, 2).unwrap(), [b"k090".to_vec(), b"k091".to_vec()]);
}

#[tokio::test]
async fn ranges_run_both_ways_between_any_bounds() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store.redb")).unwrap();
    store.write(["a", "b", "c", "d"].map(|key| put(key, key)).to_vec()).await.unwrap();
    let keys = |start: Bound<&'static [u8]>, end: Bound<&'static [u8]>, limit: usize, reverse: bool| {
        let entries = store.range(Table::KeyValue, (start, end), limit, reverse).unwrap();
        entries.into_iter().map(|(key, _)| String::from_utf8(key).unwrap()).collect::<String>()
    };
    use Bound::{Excluded, Included, Unbounded};
    assert_eq!(keys(Unbounded, Unbounded, 10, false), "abcd");
    assert_eq!(keys(Unbounded, Unbounded, 3, true), "dcb");
    assert_eq!(keys(Included(b"b"), Excluded(b"d"), 10, false), "bc");
    assert_eq!(keys(Excluded(b"b"), Included(b"d"), 10, true), "dc");
    assert_eq!(keys(Included(b"b"), Included(b"b"), 10, false), "b");
    // What redb would panic on.
    assert_eq!(keys(Excluded(b"b"), Excluded(b"b"), 10, false), "");
    assert_eq!(keys(Included(b"d"), Included(b"a"), 10, false), "");
    assert_eq!(keys(Unbounded, Unbounded, 0, false), "");
}

/// Each write puts its number under the one key, so that the value tells who was last.
#[tokio::test]
async fn writes_are_applied_in_the_order_of_submit() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store.redb")).unwrap();
    for round in 0..20 {
        let writes: Vec<PendingWrite> = (0..50)
            .map(|i| {
                let write = if i % 3 == 0 { Write::Essential } else { Write::New };
                store.submit(write, vec![put("last", &format!("{round}/{i}")), put(&format!("{round}/{i}"), "")])
            })
            .collect();
        // The last answer first: when it is there, so is everything before it.
        let mut writes = writes.into_iter();
        writes.next_back().unwrap().await.unwrap();
        assert_eq!(store.get(Table::KeyValue, b"last").unwrap().unwrap(), format!("{round}/49").as_bytes());
        for (i, mut write) in writes.enumerate() {
            assert!(store.contains(Table::KeyValue, format!("{round}/{i}").as_bytes()).unwrap());
            assert!(write.answer.try_recv().is_ok(), "answers come in the order of their writes");
        }
    }
}

#[tokio::test]
async fn new_work_is_refused_where_too_much_waits_and_results_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store.redb")).unwrap();
    // As if that much waited.
    let all = store.room.clone().try_acquire_many_owned(WRITES_WAITING_BYTES_MAX as u32).unwrap();
    let refused = store.submit(Write::New, vec![put("a", "")]).await;
    assert!(matches!(refused, Err(StoreError::Busy { waiting_mib: 64 })), "{refused:?}");
    store.submit(Write::Essential, vec![put("b", "")]).await.unwrap();
    let mut waiting = Box::pin(store.write(vec![put("c", "")]));
    let is_waiting = std::future::poll_fn(|cx| Poll::Ready(waiting.as_mut().poll(cx).is_pending())).await;
    assert!(is_waiting);
    drop(all);
    waiting.await.unwrap();
    assert!(!store.contains(Table::KeyValue, b"a").unwrap());
    assert_eq!(store.room.available_permits(), WRITES_WAITING_BYTES_MAX);
}

fn number(value: Option<&[u8]>) -> u64 {
    value.map_or(0, |value| std::str::from_utf8(value).unwrap().parse().unwrap())
}

/// Adds one to the number under `key`; returns the sum.
async fn add_one(store: &Store, key: &str) -> u64 {
    let add = |present: Option<&[u8]>| {
        let sum = number(present) + 1;
        (Some(sum.to_string().into()), sum)
    };
    store.update(Table::KeyValue, key.into(), 0, add).await.unwrap()
}

#[tokio::test]
async fn updates_of_one_commit_see_each_other_and_the_writes_before_them() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    let store = Store::open(&path).unwrap();
    let mut sums = futures_util::future::join_all((0..500).map(|_| add_one(&store, "n"))).await;
    // Whichever was submitted first.
    sums.sort_unstable();
    assert_eq!(sums, (1..=500).collect::<Vec<u64>>(), "each saw the one before it");
    // Between a put and a delete that wait with it.
    let put = store.submit(Write::New, vec![put("n", "1000")]);
    let sum = add_one(&store, "n").await;
    put.await.unwrap();
    assert_eq!(sum, 1_001);
    store.submit(Write::New, vec![Op::Delete { table: Table::KeyValue, key: b"n".to_vec() }]).await.unwrap();
    assert_eq!(add_one(&store, "n").await, 1);
    drop(store);
    let store = Store::open(&path).unwrap();
    assert_eq!(store.get(Table::KeyValue, b"n").unwrap().as_deref(), Some(&b"1"[..]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn updates_of_many_threads_lose_nothing_against_each_other_or_a_put() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(&dir.path().join("store.redb")).unwrap());
    store.write(vec![put("n", "0")]).await.unwrap();
    let tasks: Vec<_> = (0..8)
        .map(|task| {
            let store = store.clone();
            tokio::spawn(async move {
                for i in 0..100 {
                    add_one(&store, "n").await;
                    // Another key of the same commits.
                    store.write(vec![put(&format!("{task}/{i}"), "")]).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(number(store.get(Table::KeyValue, b"n").unwrap().as_deref()), 800);
    assert_eq!(store.entries(Table::KeyValue).unwrap().len(), 801);
}

#[tokio::test]
async fn an_update_that_decides_for_nothing_changes_nothing_and_answers() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store.redb")).unwrap();
    store.write(vec![put("a", "1")]).await.unwrap();
    let look = |present: Option<&[u8]>| (None, present.map(<[u8]>::to_vec));
    assert_eq!(store.update(Table::KeyValue, b"a".to_vec(), 0, look).await.unwrap(), Some(b"1".to_vec()));
    assert_eq!(store.update(Table::KeyValue, b"b".to_vec(), 0, look).await.unwrap(), None);
    // Beside one that does change something.
    let (looked, added) = tokio::join!(store.update(Table::KeyValue, b"a".to_vec(), 0, look), add_one(&store, "a"));
    assert_eq!((looked.unwrap(), added), (Some(b"1".to_vec()), 2));
    assert_eq!(store.entries(Table::KeyValue).unwrap(), [(b"a".to_vec(), b"2".to_vec())]);
}

/// Whether redb has to read all of the file at `path` before it opens it.
fn needs_repair(path: &Path) -> bool {
    let is_repaired = Arc::new(AtomicBool::new(false));
    let mut builder = redb::Database::builder();
    builder.set_repair_callback({
        let is_repaired = is_repaired.clone();
        move |_| is_repaired.store(true, Ordering::Relaxed)
    });
    // A copy that was made in the middle of a write may be beyond repair.
    builder.open(path).is_err() || is_repaired.load(Ordering::Relaxed)
}

/// A copy of the file is what a killed process leaves.
#[tokio::test]
async fn a_store_at_rest_leaves_a_file_that_opens_without_a_repair() {
    let dir = tempfile::tempdir().unwrap();
    let (path, copy) = (dir.path().join("store.redb"), dir.path().join("copy.redb"));
    let store = Store::open(&path).unwrap();
    for round in 0..3 {
        store.write(vec![put(&format!("{round}"), "1")]).await.unwrap();
        for attempt in 0.. {
            std::fs::copy(&path, &copy).unwrap();
            if !needs_repair(&copy) {
                break;
            }
            assert!(attempt < 600, "no checkpoint was written");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let copied = Store::open(&copy).unwrap();
        assert_eq!(copied.keys(Table::KeyValue, b"", None, 10).unwrap().len(), round + 1);
    }
}

fn sum_of(present: Option<&[u8]>) -> Vec<Op> {
    vec![put("n", &(number(present) + 1).to_string())]
}

/// Decides over the rows of two tables, and reads rows that earlier writes of the same group have put and deleted.
#[tokio::test]
async fn a_decider_sees_every_earlier_write_of_its_own_group_and_none_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store.redb")).unwrap();
    store.write(vec![put("gone", ""), put("n", "40")]).await.unwrap();
    let seen = |view: &View<'_>| {
        let other = view.contains(Table::Calls, b"key")?;
        let between = (Bound::Included(&b"a"[..]), Bound::Excluded(&b"z"[..]));
        let last = view.last(Table::KeyValue, between)?.map(|(key, _)| String::from_utf8(key.to_vec()).unwrap());
        let n = number(view.get(Table::KeyValue, b"n")?.as_deref());
        Ok((sum_of(view.get(Table::KeyValue, b"n")?.as_deref()), (other, last, n)))
    };
    // As many groups as the writer makes of them: what each decider sees is the same.
    let earlier = store.submit(
        Write::New,
        vec![
            Op::Put { table: Table::Calls, key: b"key".to_vec(), value: vec![] },
            Op::Delete { table: Table::KeyValue, key: b"gone".to_vec() },
            put("n", "41"),
        ],
    );
    let one = store.transact(None, Write::Essential, 0, seen);
    let other = store.transact(None, Write::Essential, 0, seen);
    let update = add_one(&store, "n");
    let (one, other, sum) = tokio::join!(one, other, update);
    earlier.await.unwrap();
    let n = || Some("n".to_owned());
    assert_eq!(one.unwrap(), (true, n(), 41));
    assert_eq!(other.unwrap(), (true, n(), 42));
    assert_eq!(sum, 44);

    // Two deciders of one write.
    let [(first, _), (second, answer)] = [(); 2].map(|()| {
        Decider::new(0, (), |(), view| {
            let n = number(view.get(Table::KeyValue, b"n")?.as_deref());
            Ok((vec![Cow::Owned(sum_of(Some(n.to_string().as_bytes())))], n))
        })
    });
    store.write(vec![Op::Decide(first), put("m", ""), Op::Decide(second)]).await.unwrap();
    assert_eq!(answer.take(), 45);
}

#[tokio::test]
async fn a_decider_of_an_earlier_epoch_is_not_asked_and_one_that_decides_for_nothing_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store.redb")).unwrap();
    let epoch = store.raise_epoch().await.unwrap();
    let put = |_: &View<'_>| Ok((vec![put("a", "1")], ()));
    store.transact(Some(epoch), Write::New, 0, put).await.unwrap();
    let look = |view: &View<'_>| Ok((Vec::new(), view.get(Table::KeyValue, b"a")?.map(|value| value.to_vec())));
    assert_eq!(store.transact(Some(epoch), Write::New, 0, look).await.unwrap(), Some(b"1".to_vec()));
    let latest = store.raise_epoch().await.unwrap();
    let refused = store.transact(Some(epoch), Write::Essential, 0, move |_| -> Result<(Vec<Op>, ()), ViewError> {
        panic!("it is asked")
    });
    let refused = refused.await;
    assert!(matches!(refused, Err(StoreError::Fenced { latest: found, .. }) if found == latest), "{refused:?}");
    assert_eq!(store.entries(Table::KeyValue).unwrap(), [(b"a".to_vec(), b"1".to_vec())]);
}
