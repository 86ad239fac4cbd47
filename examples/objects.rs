//! Objects of WebAssembly's garbage collector between host and guest: the host hands over text as an array of bytes, the guest
//! makes a binary tree of its words, and the host walks the tree.
//!
//!     cargo run --release --example objects

use wasmrun::{
    AnyRef, ArrayRef, ArrayRefPre, ArrayType, Engine, FieldType, Instance, Module, Mutability, Result, StorageType,
    Store, Value,
};

/// Counts words: a tree sorted by word, whose nodes have left, right, a word, and how often it was there.
const WORDS: &str = r#"(module
    (type $text (array (mut i8)))
    (rec (type $node (struct
        (field $left (mut (ref null $node))) (field $right (mut (ref null $node)))
        (field $word (ref $text)) (field $count (mut i32)))))

    ;; Less than, equal to or greater than 0, as `a` comes before `b`, is the same or comes after.
    (func $compare (param $a (ref $text)) (param $b (ref $text)) (result i32)
        (local $i i32) (local $difference i32)
        (block $end
            (loop $next
                (br_if $end (i32.or
                    (i32.eq (local.get $i) (array.len (local.get $a)))
                    (i32.eq (local.get $i) (array.len (local.get $b)))))
                (local.set $difference (i32.sub
                    (array.get_u $text (local.get $a) (local.get $i)) (array.get_u $text (local.get $b) (local.get $i))))
                (if (local.get $difference) (then (return (local.get $difference))))
                (local.set $i (i32.add (local.get $i) (i32.const 1)))
                (br $next)))
        (i32.sub (array.len (local.get $a)) (array.len (local.get $b))))

    (func $add (param $tree (ref null $node)) (param $word (ref $text)) (result (ref $node))
        (local $order i32)
        (if (ref.is_null (local.get $tree))
            (then (return (struct.new $node (ref.null $node) (ref.null $node) (local.get $word) (i32.const 1)))))
        (local.set $order (call $compare (local.get $word) (struct.get $node $word (local.get $tree))))
        (if (i32.lt_s (local.get $order) (i32.const 0))
            (then (struct.set $node $left (local.get $tree)
                (call $add (struct.get $node $left (local.get $tree)) (local.get $word)))))
        (if (i32.gt_s (local.get $order) (i32.const 0))
            (then (struct.set $node $right (local.get $tree)
                (call $add (struct.get $node $right (local.get $tree)) (local.get $word)))))
        (if (i32.eqz (local.get $order))
            (then (struct.set $node $count (local.get $tree)
                (i32.add (struct.get $node $count (local.get $tree)) (i32.const 1)))))
        (ref.as_non_null (local.get $tree)))

    ;; The tree of the words of a text, which are what spaces separate.
    (func (export "words") (param $text (ref $text)) (result anyref)
        (local $tree (ref null $node)) (local $from i32) (local $to i32) (local $word (ref null $text))
        (loop $next
            (if (i32.or
                    (i32.eq (local.get $to) (array.len (local.get $text)))
                    (if (result i32) (i32.lt_u (local.get $to) (array.len (local.get $text)))
                        (then (i32.eq (array.get_u $text (local.get $text) (local.get $to)) (i32.const 32)))
                        (else (i32.const 0))))
                (then
                    (if (i32.gt_u (local.get $to) (local.get $from)) (then
                        (local.set $word (array.new_default $text (i32.sub (local.get $to) (local.get $from))))
                        (array.copy $text $text (ref.as_non_null (local.get $word)) (i32.const 0)
                            (local.get $text) (local.get $from) (i32.sub (local.get $to) (local.get $from)))
                        (local.set $tree (call $add (local.get $tree) (ref.as_non_null (local.get $word))))))
                    (local.set $from (i32.add (local.get $to) (i32.const 1)))))
            (local.set $to (i32.add (local.get $to) (i32.const 1)))
            (br_if $next (i32.le_u (local.get $to) (array.len (local.get $text)))))
        (local.get $tree)))"#;

/// The words of a text in the order of the alphabet, each with how often it is there.
fn words(text: &str) -> Result<Vec<(String, i32)>> {
    let engine = Engine::default();
    let mut store = Store::new(&engine, ());
    let instance = Instance::new(&mut store, &Module::new(&engine, WORDS)?, &[])?;

    // A type of the host is the module's type, because it has the same structure.
    let bytes = ArrayType::new(&engine, FieldType::new(Mutability::Var, StorageType::I8));
    let pre = ArrayRefPre::new(&mut store, bytes);
    let text = ArrayRef::new_from_i8_slice(&mut store, &pre, text.as_bytes())?;

    let mut results = [Value::I32(0)];
    let words = instance.get_func(&mut store, "words").expect("it is above");
    words.call(&mut store, &[text.to_anyref().into()], &mut results)?;
    let [Value::AnyRef(tree)] = results else { unreachable!("so says the function's type") };

    let mut found = Vec::new();
    if let Some(tree) = tree {
        walk(&store, &tree, &mut found)?;
    }
    Ok(found)
}

/// Adds the words of a tree. What a reference refers to stays while the host holds it.
fn walk(store: &Store<()>, tree: &AnyRef, found: &mut Vec<(String, i32)>) -> Result<()> {
    let node = tree.unwrap_struct(store)?;
    let fields: Vec<Value> = node.fields(store)?.collect();
    let [Value::AnyRef(left), Value::AnyRef(right), Value::AnyRef(Some(word)), Value::I32(count)] = &fields[..] else {
        unreachable!("so says the structure's type")
    };
    if let Some(left) = left {
        walk(store, left, found)?;
    }
    let word = word.unwrap_array(store)?;
    let mut text = vec![0; word.len(store)? as usize];
    word.copy_to_i8_slice(store, &mut text)?;
    found.push((String::from_utf8_lossy(&text).into_owned(), *count));
    if let Some(right) = right {
        walk(store, right, found)?;
    }
    Ok(())
}

fn main() -> Result<()> {
    for (word, count) in words("the quick brown fox jumps over the lazy dog and the cat")? {
        println!("{count} {word}");
    }
    Ok(())
}

#[test]
fn the_guest_counts_words() {
    let found = words("b  a c a ").unwrap();
    assert_eq!(found, [("a".into(), 2), ("b".into(), 1), ("c".into(), 1)]);
    assert_eq!(words("").unwrap(), []);
}
