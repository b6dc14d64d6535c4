//! The desk's command line; all of it is in the library.

use changefold::local::cli::{Exit, run_views};

fn main() -> Exit {
    run_views(std::env::args_os())
}
