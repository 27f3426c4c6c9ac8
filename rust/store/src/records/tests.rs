use std::sync::Arc;
use std::sync::mpsc::channel;

use super::*;

fn prompt(id: &str, number: f64) -> NewPrompt {
    NewPrompt {
        number,
        counter: number as i64,
        prompt_id: id.into(),
        item: format!("[{number},{id:?}]").into(),
    }
}

fn enqueue(store: &SqliteStore, id: &str, number: f64) -> i64 {
    let (answer, answered) = channel();
    store.enqueue(prompt(id, number), Box::new(move |result| answer.send(result).unwrap()));
    answered.recv().unwrap().unwrap()
}

fn finished(id: &str) -> FinishedPrompt {
    FinishedPrompt {
        prompt_id: id.into(),
        entry: format!("{{\"entry\":{id:?}}}"),
        job: format!("{{\"id\":{id:?}}}"),
        key: JobKey { prompt_id: id.into(), status: "completed".into(), ..JobKey::default() },
    }
}

/// Ends a prompt and waits until that is durable.
fn finish(store: &SqliteStore, seq: i64, finished: FinishedPrompt) -> bool {
    let (answer, answered) = channel();
    let was_queued =
        store.finish(seq, finished, Box::new(move |result| answer.send(result).unwrap())).unwrap();
    answered.recv().unwrap().unwrap();
    was_queued
}

fn history(store: &SqliteStore, page: HistoryPage) -> Vec<String> {
    let mut ids = Vec::new();
    let mut seqs = store.history_page(page).unwrap();
    // In parts, as a client that reads slowly gets them.
    while !seqs.is_empty() {
        let read = store.history(&seqs, &mut |id, _| {
            ids.push(id.to_owned());
            ids.len() % 2 == 1
        });
        seqs.drain(..read.unwrap());
    }
    ids
}

fn stores() -> Vec<(SqliteStore, Option<tempfile::TempDir>)> {
    let folder = tempfile::tempdir().unwrap();
    let disk = SqliteStore::open(&folder.path().join("a/rushlight.db"), SqliteOptions::default()).unwrap();
    vec![(disk, Some(folder)), (SqliteStore::in_memory(SqliteOptions::default()).unwrap(), None)]
}

#[test]
fn pending_prompts_come_back_by_number_then_arrival() {
    for (store, _folder) in stores() {
        for (id, number) in [("a", 2.0), ("b", 1.0), ("c", 2.0), ("d", -1.0)] {
            enqueue(&store, id, number);
        }
        let recovered = store.recover().unwrap();
        let ids: Vec<_> = recovered.prompts.iter().map(|prompt| prompt.prompt_id.as_ref()).collect();
        assert_eq!(ids, ["d", "b", "a", "c"]);
        assert_eq!(recovered.next_counter, 3);
    }
}

#[test]
fn a_prompt_is_in_the_queue_or_in_the_history_and_finishes_once() {
    for (store, _folder) in stores() {
        let seq = enqueue(&store, "a", 0.0);
        store.take(seq).unwrap();
        assert!(finish(&store, seq, finished("a")));
        assert!(!finish(&store, seq, finished("a")));
        assert!(store.recover().unwrap().prompts.is_empty());
        assert_eq!(history(&store, HistoryPage::default()), ["a"]);
        assert_eq!(store.history_entry("a").unwrap().unwrap(), "{\"entry\":\"a\"}");
        assert_eq!(store.jobs(&["a".into(), "x".into()]).unwrap(), ["{\"id\":\"a\"}"]);
    }
}

#[test]
fn attempts_count_unless_the_prompt_was_put_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rushlight.db");
    let store = SqliteStore::open(&path, SqliteOptions::default()).unwrap();
    let lost = enqueue(&store, "lost", 0.0);
    let returned = enqueue(&store, "returned", 1.0);
    store.take(lost).unwrap();
    store.take(returned).unwrap();
    store.release(returned).unwrap();
    drop(store);
    let store = SqliteStore::open(&path, SqliteOptions::default()).unwrap();
    let prompts = store.recover().unwrap().prompts;
    let facts: Vec<_> = prompts
        .iter()
        .map(|prompt| (prompt.prompt_id.as_ref(), prompt.attempts, prompt.was_running))
        .collect();
    assert_eq!(facts, [("lost", 1, true), ("returned", 0, false)]);
}

#[test]
fn history_pages_are_the_newest_or_from_an_offset() {
    for (store, _folder) in stores() {
        for index in 0..5 {
            let id = format!("p{index}");
            let seq = enqueue(&store, &id, 0.0);
            finish(&store, seq, finished(&id));
        }
        let page = |max_items, offset| history(&store, HistoryPage { max_items, offset });
        assert_eq!(page(Some(2), None), ["p3", "p4"]);
        assert_eq!(page(Some(2), Some(1)), ["p1", "p2"]);
        assert_eq!(page(None, Some(3)), ["p3", "p4"]);
        assert!(page(Some(0), None).is_empty());
        store.delete_history(vec!["p1".into(), "unknown".into()]).unwrap();
        assert_eq!(page(None, None), ["p0", "p2", "p3", "p4"]);
        store.clear_history().unwrap();
        assert!(page(None, None).is_empty());
    }
}

#[test]
fn history_is_bounded_by_count_and_by_bytes() {
    let options = SqliteOptions { history_entries: 3, history_bytes: 1 << 20 };
    let store = SqliteStore::in_memory(options).unwrap();
    for index in 0..6 {
        let seq = enqueue(&store, "x", 0.0);
        finish(&store, seq, finished(&format!("p{index}")));
    }
    assert_eq!(history(&store, HistoryPage::default()), ["p3", "p4", "p5"]);
    let seq = enqueue(&store, "x", 0.0);
    let large = FinishedPrompt { entry: "x".repeat(2 << 20), ..finished("large") };
    finish(&store, seq, large);
    assert_eq!(history(&store, HistoryPage::default()), ["large"]);
}

#[test]
fn a_second_server_cannot_open_the_same_database() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rushlight.db");
    let _first = SqliteStore::open(&path, SqliteOptions::default()).unwrap();
    assert!(matches!(SqliteStore::open(&path, SqliteOptions::default()), Err(StoreError::InUse { .. })));
}

#[test]
fn concurrent_prompts_share_the_flush() {
    let folder = tempfile::tempdir().unwrap();
    let store =
        Arc::new(SqliteStore::open(&folder.path().join("rushlight.db"), SqliteOptions::default()).unwrap());
    let (answer, answered) = channel();
    for index in 0..2_000 {
        let answer = answer.clone();
        store.enqueue(
            prompt(&format!("p{index}"), index.into()),
            Box::new(move |result| answer.send(result.unwrap()).unwrap()),
        );
    }
    drop(answer);
    let mut seqs: Vec<_> = answered.iter().collect();
    assert!(seqs.is_sorted());
    seqs.dedup();
    assert_eq!(seqs.len(), 2_000);
    assert_eq!(store.recover().unwrap().prompts.len(), 2_000);
}

#[test]
fn what_was_committed_is_answered_as_durable_before_a_closed_store_is_gone() {
    for (store, _folder) in stores() {
        let (answer, answered) = channel();
        for index in 0..50 {
            let id = format!("p{index}");
            let seq = enqueue(&store, &id, 0.0);
            let answer = answer.clone();
            let durable =
                Box::new(move |result: Result<(), StoreError>| answer.send((index, result)).unwrap());
            assert!(store.finish(seq, finished(&id), durable).unwrap());
            assert!(store.history_entry(&id).unwrap().is_some(), "seen once committed");
        }
        drop(answer);
        store.close();
        let answers: Vec<_> = answered.iter().map(|(index, result)| (index, result.is_ok())).collect();
        assert_eq!(answers, (0..50).map(|index| (index, true)).collect::<Vec<_>>());
    }
}

#[test]
fn a_closed_store_refuses_and_has_written_what_it_took() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rushlight.db");
    let store = SqliteStore::open(&path, SqliteOptions::default()).unwrap();
    let seq = enqueue(&store, "a", 0.0);
    store.close();
    assert!(matches!(store.take(seq), Err(StoreError::Closed)));
    drop(store);
    let store = SqliteStore::open(&path, SqliteOptions::default()).unwrap();
    assert_eq!(store.recover().unwrap().prompts.len(), 1);
}
