//! scratch
use adapter_engine::formats::{Gguf, ReadAtFile};
use adapter_engine::gpu::{Gpu, GpuOptions};
use adapter_engine::session::{Rows, SessionOptions};
use adapter_engine::{Model, Session};
use std::ops::ControlFlow;

#[test]
fn tiny() {
    let gpu = pollster::block_on(Gpu::open(&GpuOptions::default())).unwrap();
    println!("{:?} {}", gpu.summary(), gpu.tier());
    let base: serde_json::Value = serde_json::from_slice(&std::fs::read("/work/shared/fixtures/tiny-llama/base.json").unwrap()).unwrap();
    let ids: Vec<u32> = base["ids"].as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as u32).collect();
    let gold = std::fs::read("/work/shared/fixtures/tiny-llama/golden-quant.safetensors").unwrap();
    let gold = safetensors::SafeTensors::deserialize(&gold).unwrap();
    let goldb = std::fs::read("/work/shared/fixtures/tiny-llama/base.safetensors").unwrap();
    let goldb = safetensors::SafeTensors::deserialize(&goldb).unwrap();
    for q in ["f32", "f16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k"] {
        let file = ReadAtFile::open(format!("/work/shared/fixtures/tiny-llama/tiny-{q}.gguf")).unwrap();
        let gguf = Gguf::read(&file).unwrap();
        let model = Model::load(&gpu, &gguf, &file, &mut |_, _| ControlFlow::Continue(())).unwrap();
        let mut session = Session::new(&model, &SessionOptions::default()).unwrap();
        let logits = pollster::block_on(session.logits(&ids, Rows::All)).unwrap();
        let t = if q == "f32" { goldb.tensor("logits").unwrap() } else { gold.tensor(q).unwrap() };
        let want: Vec<f32> = bytemuck::pod_collect_to_vec(t.data());
        session.truncate(0);
        let mut one = vec![];
        for id in &ids {
            one.extend(pollster::block_on(session.logits(&[*id], Rows::All)).unwrap());
        }
        println!("{q} {:e} {:e}", adapter_tests::nmse(&logits, &want), adapter_tests::nmse(&one, &want));
    }
}
