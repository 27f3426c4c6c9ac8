//! Tensor shapes of UNets of any size, to make models for benches without a file.

use indexmap::IndexMap;

/// What decides the shapes of a Stable Diffusion 1.x UNet.
#[derive(Debug, Clone)]
pub struct UNetSize {
    /// Width of the first level.
    pub channels: usize,
    /// Width of each level over the first's.
    pub multipliers: Vec<usize>,
    /// Residual blocks a level.
    pub blocks: usize,
    /// Whether each level has transformers.
    pub transformers: Vec<bool>,
    /// Width of the text tokens.
    pub context: usize,
}

impl UNetSize {
    /// Stable Diffusion 1.5: 860 million parameters.
    pub fn stable_diffusion_1_5() -> Self {
        Self {
            channels: 320,
            multipliers: vec![1, 2, 4, 4],
            blocks: 2,
            transformers: vec![true, true, true, false],
            context: 768,
        }
    }

    /// Shapes by key, without a prefix.
    pub fn shapes(&self) -> IndexMap<String, Vec<usize>> {
        let mut shapes = Shapes { map: IndexMap::new(), time: self.channels * 4, context: self.context };
        let last = self.multipliers.len().saturating_sub(1);
        shapes.linear("time_embed.0", shapes.time, self.channels);
        shapes.linear("time_embed.2", shapes.time, shapes.time);
        shapes.conv("input_blocks.0.0", self.channels, 4, 3);
        let mut skips = vec![self.channels];
        let (mut width, mut index) = (self.channels, 1);
        for (level, multiplier) in self.multipliers.iter().enumerate() {
            let has_transformer = self.transformers.get(level).copied().unwrap_or(false);
            for _ in 0..self.blocks {
                shapes.res_block(&format!("input_blocks.{index}.0"), self.channels * multiplier, width);
                width = self.channels * multiplier;
                if has_transformer {
                    shapes.transformer(&format!("input_blocks.{index}.1"), width);
                }
                skips.push(width);
                index += 1;
            }
            if level < last {
                shapes.conv(&format!("input_blocks.{index}.0.op"), width, width, 3);
                skips.push(width);
                index += 1;
            }
        }
        shapes.res_block("middle_block.0", width, width);
        shapes.transformer("middle_block.1", width);
        shapes.res_block("middle_block.2", width, width);
        index = 0;
        for (level, multiplier) in self.multipliers.iter().enumerate().rev() {
            for block in 0..=self.blocks {
                let skip = skips.pop().unwrap_or(0);
                shapes.res_block(
                    &format!("output_blocks.{index}.0"),
                    self.channels * multiplier,
                    width + skip,
                );
                width = self.channels * multiplier;
                let mut part = 1;
                if self.transformers.get(level).copied().unwrap_or(false) {
                    shapes.transformer(&format!("output_blocks.{index}.1"), width);
                    part = 2;
                }
                if level > 0 && block == self.blocks {
                    shapes.conv(&format!("output_blocks.{index}.{part}.conv"), width, width, 3);
                }
                index += 1;
            }
        }
        shapes.norm("out.0", width);
        shapes.conv("out.2", 4, width, 3);
        shapes.map
    }
}

struct Shapes {
    map: IndexMap<String, Vec<usize>>,
    time: usize,
    context: usize,
}

impl Shapes {
    fn add(&mut self, name: &str, weight: Vec<usize>, bias: bool) {
        if let (true, Some(&out)) = (bias, weight.first()) {
            self.map.insert(format!("{name}.bias"), vec![out]);
        }
        self.map.insert(format!("{name}.weight"), weight);
    }

    fn norm(&mut self, name: &str, width: usize) {
        self.add(name, vec![width], true);
    }

    fn linear(&mut self, name: &str, out: usize, input: usize) {
        self.add(name, vec![out, input], true);
    }

    fn conv(&mut self, name: &str, out: usize, input: usize, kernel: usize) {
        self.add(name, vec![out, input, kernel, kernel], true);
    }

    fn res_block(&mut self, name: &str, out: usize, input: usize) {
        self.norm(&format!("{name}.in_layers.0"), input);
        self.conv(&format!("{name}.in_layers.2"), out, input, 3);
        self.linear(&format!("{name}.emb_layers.1"), out, self.time);
        self.norm(&format!("{name}.out_layers.0"), out);
        self.conv(&format!("{name}.out_layers.3"), out, out, 3);
        if out != input {
            self.conv(&format!("{name}.skip_connection"), out, input, 1);
        }
    }

    fn transformer(&mut self, name: &str, width: usize) {
        self.norm(&format!("{name}.norm"), width);
        self.conv(&format!("{name}.proj_in"), width, width, 1);
        self.conv(&format!("{name}.proj_out"), width, width, 1);
        let block = format!("{name}.transformer_blocks.0");
        for norm in ["norm1", "norm2", "norm3"] {
            self.norm(&format!("{block}.{norm}"), width);
        }
        for (attention, keys) in [("attn1", width), ("attn2", self.context)] {
            self.add(&format!("{block}.{attention}.to_q"), vec![width, width], false);
            self.add(&format!("{block}.{attention}.to_k"), vec![width, keys], false);
            self.add(&format!("{block}.{attention}.to_v"), vec![width, keys], false);
            self.linear(&format!("{block}.{attention}.to_out.0"), width, width);
        }
        self.linear(&format!("{block}.ff.net.0.proj"), width * 8, width);
        self.linear(&format!("{block}.ff.net.2"), width, width * 4);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stable_diffusion_1_5_has_860_million_parameters() {
        let shapes = UNetSize::stable_diffusion_1_5().shapes();
        let count: usize = shapes.values().map(|shape| shape.iter().product::<usize>()).sum();
        assert_eq!(count, 859_520_964);
        assert_eq!(shapes.len(), 686);
    }
}
