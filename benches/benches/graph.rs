//! Validating, hashing and planning chains of nodes: each is linear, so 5,000 nodes cost five times what 1,000 do.
//!
//! `cargo bench -p rushlight-benches --bench graph`
#![allow(missing_docs)]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rushlight_benches::chain::{ChainClasses, Fresh, chain};
use rushlight_graph::cache_key::KeyFacts;
use rushlight_graph::{DynamicPrompt, ExecutionList, KeyTable, validate};

fn graph(criterion: &mut Criterion) {
    let classes = ChainClasses::default();
    let mut group = criterion.benchmark_group("chain");
    for length in [1_000_usize, 5_000] {
        group.throughput(Throughput::Elements(length as u64));
        let json = chain(length);
        group.bench_with_input(BenchmarkId::new("validate", length), &json, |bench, json| {
            bench.iter(|| validate(black_box(json), &classes, None).is_ok());
        });
        let Ok(valid) = validate(&json, &classes, None) else { continue };
        let prompt = Arc::new(valid.prompt);
        group.bench_with_input(BenchmarkId::new("hash", length), &prompt, |bench, prompt| {
            bench.iter(|| {
                let mut keys = KeyTable::new();
                let dynamic = DynamicPrompt::new(prompt.clone());
                keys.extend(&dynamic, valid.outputs.clone(), |_, _| KeyFacts::default());
                keys.get("save")
            });
        });
        group.bench_with_input(BenchmarkId::new("plan", length), &prompt, |bench, prompt| {
            bench.iter(|| {
                let mut list = ExecutionList::new();
                valid.outputs.iter().for_each(|output| list.add(output, &Fresh(prompt)));
                while let Some(node) = list.next() {
                    list.complete(&node);
                }
                list.is_done()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, graph);
criterion_main!(benches);
