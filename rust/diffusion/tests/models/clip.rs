use candle_core::Tensor;
use rushlight_diffusion::clip::TextEncoder;
use rushlight_diffusion::models::clip::{ClipText, MlpActivation, Output};
use rushlight_diffusion::tokenizer::{Piece, Token};
use rushlight_diffusion::weights::{StateDict, layouts};

use crate::common::{Io, assert_close, recorded, weights};

fn chunks(io: &Io, name: &str) -> Vec<Vec<Token>> {
    let token = |id: u32| Token { piece: Piece::Id(id), weight: 1.0, word: 0 };
    io.ids(name).into_iter().map(|row| row.into_iter().map(token).collect()).collect()
}

fn check(name: &str, dict: &StateDict, io: &Io, activation: MlpActivation) {
    let model = ClipText::new(&weights(dict, ""), activation).unwrap();
    for case in io.cases().into_iter().filter(|case| case != "encode") {
        let chunks = chunks(io, &format!("{case}/ids"));
        let encode = |skip, normed| model.encode(&chunks, Output { skip, normed }).unwrap();
        let expect = |what: &str, found: &Tensor| {
            let expected = io.get(&format!("{case}/{what}"));
            assert_close(&format!("{name} {case} {what}"), found, &expected, 1e-3);
        };
        expect("last_hidden_normed", &encode(0, true).hidden);
        expect("penultimate_normed", &encode(1, true).hidden);
        let raw = encode(1, false);
        expect("penultimate_raw", &raw.hidden);
        expect("pooled_projected", &raw.pooled);
    }
}

#[test]
fn clip_l_computes_what_was_recorded() {
    let Some(model) = recorded("clip_l") else { return };
    let dict = model.dict.view("cond_stage_model.transformer.");
    check("clip_l", &dict, &model.io, MlpActivation::QuickGelu);
}

#[test]
fn clip_g_in_open_clips_layout_computes_what_was_recorded() {
    let Some(model) = recorded("clip_g") else { return };
    let dict = layouts::open_clip_to_hugging_face(&model.dict.view("conditioner.embedders.1.model."));
    check("clip_g", &dict, &model.io, MlpActivation::Gelu);
}

fn check_weighting(name: &str, io: &Io, encoder: &TextEncoder, output: Output) {
    for case in io.cases_of("encode") {
        let get = |part: &str| io.get(&format!("encode/{case}/{part}"));
        let mut chunks = chunks(io, &format!("encode/{case}/tokens"));
        let weights = get("weights").to_vec2::<f32>().unwrap();
        for (token, weight) in chunks.iter_mut().flatten().zip(weights.into_iter().flatten()) {
            token.weight = f64::from(weight);
        }
        let encoded = encoder.encode(&chunks, output).unwrap();
        assert_close(&format!("{name} {case} cond"), &encoded.hidden, &get("cond"), 1e-3);
        assert_close(&format!("{name} {case} pooled"), &encoded.pooled, &get("pooled"), 1e-3);
    }
}

#[test]
fn weighted_prompts_are_encoded_as_recorded() {
    if let Some(model) = recorded("clip_l") {
        let encoder = TextEncoder::clip_l(weights(&model.dict, "cond_stage_model.transformer."));
        check_weighting("clip_l", &model.io, &encoder, Output { skip: 0, normed: true });
    }
    if let Some(model) = recorded("clip_g") {
        let dict = layouts::open_clip_to_hugging_face(&model.dict.view("conditioner.embedders.1.model."));
        let encoder = TextEncoder::clip_g(weights(&dict, ""));
        check_weighting("clip_g", &model.io, &encoder, Output { skip: 1, normed: false });
    }
}
