//! Panics in a function that is called from `main`, with an index that is too large.

use std::hint::black_box;

mod store {
    #[inline(never)]
    pub fn pick(items: &[u32], at: usize) -> u32 {
        items[at]
    }
}

fn main() {
    let items = black_box(vec![1, 2, 3]);
    let at = black_box(7);
    println!("{}", store::pick(&items, at));
}
