//! Tensor shapes of a whole Stable Diffusion 1.5 checkpoint.

use rushlight_diffusion::testing::UNetSize;

type Shapes = Vec<(String, Vec<usize>)>;

/// Every tensor of the file.
pub fn checkpoint() -> Shapes {
    let mut shapes = Shapes::new();
    let unet = UNetSize::stable_diffusion_1_5().shapes();
    shapes.extend(unet.into_iter().map(|(name, shape)| (format!("model.diffusion_model.{name}"), shape)));
    text_encoder(&mut shapes);
    autoencoder(&mut shapes);
    shapes
}

fn add(shapes: &mut Shapes, name: String, weight: &[usize]) {
    shapes.push((format!("{name}.bias"), weight.iter().take(1).copied().collect()));
    shapes.push((format!("{name}.weight"), weight.to_vec()));
}

/// CLIP-L: 12 layers of 768.
fn text_encoder(shapes: &mut Shapes) {
    const WIDTH: usize = 768;
    let model = "cond_stage_model.transformer.text_model";
    shapes.push((format!("{model}.embeddings.token_embedding.weight"), vec![49408, WIDTH]));
    shapes.push((format!("{model}.embeddings.position_embedding.weight"), vec![77, WIDTH]));
    for layer in 0..12 {
        let layer = format!("{model}.encoder.layers.{layer}");
        for norm in ["layer_norm1", "layer_norm2"] {
            add(shapes, format!("{layer}.{norm}"), &[WIDTH]);
        }
        for part in ["q_proj", "k_proj", "v_proj", "out_proj"] {
            add(shapes, format!("{layer}.self_attn.{part}"), &[WIDTH, WIDTH]);
        }
        add(shapes, format!("{layer}.mlp.fc1"), &[WIDTH * 4, WIDTH]);
        add(shapes, format!("{layer}.mlp.fc2"), &[WIDTH, WIDTH * 4]);
    }
    add(shapes, format!("{model}.final_layer_norm"), &[WIDTH]);
}

/// The autoencoder: 128 channels, four levels.
fn autoencoder(shapes: &mut Shapes) {
    const LEVELS: [usize; 4] = [128, 256, 512, 512];
    let model = "first_stage_model";
    add(shapes, format!("{model}.quant_conv"), &[8, 8, 1, 1]);
    add(shapes, format!("{model}.post_quant_conv"), &[4, 4, 1, 1]);
    add(shapes, format!("{model}.encoder.conv_in"), &[128, 3, 3, 3]);
    let mut width = 128;
    for (level, out) in LEVELS.into_iter().enumerate() {
        for block in 0..2 {
            res_block(shapes, &format!("{model}.encoder.down.{level}.block.{block}"), width, out);
            width = out;
        }
        if level < 3 {
            add(shapes, format!("{model}.encoder.down.{level}.downsample.conv"), &[out, out, 3, 3]);
        }
    }
    middle(shapes, &format!("{model}.encoder"));
    add(shapes, format!("{model}.encoder.norm_out"), &[512]);
    add(shapes, format!("{model}.encoder.conv_out"), &[8, 512, 3, 3]);
    add(shapes, format!("{model}.decoder.conv_in"), &[512, 4, 3, 3]);
    middle(shapes, &format!("{model}.decoder"));
    width = 512;
    for (level, out) in LEVELS.into_iter().enumerate().rev() {
        for block in 0..3 {
            res_block(shapes, &format!("{model}.decoder.up.{level}.block.{block}"), width, out);
            width = out;
        }
        if level > 0 {
            add(shapes, format!("{model}.decoder.up.{level}.upsample.conv"), &[out, out, 3, 3]);
        }
    }
    add(shapes, format!("{model}.decoder.norm_out"), &[128]);
    add(shapes, format!("{model}.decoder.conv_out"), &[3, 128, 3, 3]);
}

fn middle(shapes: &mut Shapes, half: &str) {
    for block in ["block_1", "block_2"] {
        res_block(shapes, &format!("{half}.mid.{block}"), 512, 512);
    }
    add(shapes, format!("{half}.mid.attn_1.norm"), &[512]);
    for part in ["q", "k", "v", "proj_out"] {
        add(shapes, format!("{half}.mid.attn_1.{part}"), &[512, 512, 1, 1]);
    }
}

fn res_block(shapes: &mut Shapes, name: &str, input: usize, out: usize) {
    add(shapes, format!("{name}.norm1"), &[input]);
    add(shapes, format!("{name}.conv1"), &[out, input, 3, 3]);
    add(shapes, format!("{name}.norm2"), &[out]);
    add(shapes, format!("{name}.conv2"), &[out, out, 3, 3]);
    if input != out {
        add(shapes, format!("{name}.nin_shortcut"), &[out, input, 1, 1]);
    }
}
