//! Plain graphs, lists, caching of plain graphs.

use serde_json::json;

use super::support::{Bench, node};

#[test]
fn two_nodes_run_in_order_and_show_their_output() {
    let mut bench = Bench::new(Vec::new());
    let seen = bench.run(&json!({
        "2": node("Show", json!({"value": ["1", 0]})), "1": node("Int", json!({"value": "7"})),
    }));
    assert!(seen.outcome.is_success(), "{:?}", seen.outcome.terminal);
    assert_eq!(seen.order(), ["1", "2"]);
    assert_eq!(seen.outcome.outputs["2"], json!({"text": [7]}));
    assert_eq!(seen.outcome.meta["2"].real_node_id, "2");
}
