//! `adapter-bindgen IN.wasm OUT_FOLDER NAME`: JavaScript and TypeScript types for a module that uses wasm-bindgen.
//!
//! The library behind `wasm-bindgen-cli`, taken from this workspace's lock file: it has to be of exactly the version the
//! module was compiled with, and here it cannot be of any other. It builds in a fraction of the program's time.

use std::process::ExitCode;

use wasm_bindgen_cli_support::Bindgen;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [input, out, name] = args.as_slice() else {
        eprintln!("usage: adapter-bindgen IN.wasm OUT_FOLDER NAME");
        return ExitCode::from(2);
    };
    let mut bindgen = Bindgen::new();
    // Names of functions serve nobody who fetches a module, and are two thirds of it.
    bindgen.remove_name_section(true).remove_producers_section(true);
    let web = bindgen.input_path(input).out_name(name).typescript(true).omit_default_module_path(false).web(true);
    match web.and_then(|bindgen| bindgen.generate(out)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {input}: {error:#}");
            ExitCode::FAILURE
        }
    }
}
