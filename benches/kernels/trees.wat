;; Binary trees: one that lives, and many that are built, walked and dropped meanwhile.
(module
  (type $tree (struct (field $left (ref null $tree)) (field $right (ref null $tree))))
  (func $build (param $depth i32) (result (ref $tree))
    (if (result (ref $tree)) (local.get $depth)
      (then
        (struct.new $tree
          (call $build (i32.sub (local.get $depth) (i32.const 1)))
          (call $build (i32.sub (local.get $depth) (i32.const 1)))))
      (else (struct.new_default $tree))))
  (func $count (param $tree (ref $tree)) (result i32)
    (local $left (ref null $tree))
    (if (result i32) (ref.is_null (local.tee $left (struct.get $tree $left (local.get $tree))))
      (then (i32.const 1))
      (else
        (i32.add (i32.const 1)
          (i32.add
            (call $count (ref.as_non_null (local.get $left)))
            (call $count (ref.as_non_null (struct.get $tree $right (local.get $tree)))))))))
  (func (export "run") (param $rounds i32) (result i64)
    (local $long (ref null $tree)) (local $sum i64)
    (local.set $long (call $build (i32.const 16)))
    (loop $more
      (local.set $sum (i64.add (local.get $sum)
        (i64.extend_i32_u (call $count (call $build (i32.add (i32.const 8) (i32.and (local.get $rounds) (i32.const 7))))))))
      (br_if $more (local.tee $rounds (i32.sub (local.get $rounds) (i32.const 1)))))
    (i64.add (local.get $sum) (i64.extend_i32_u (call $count (ref.as_non_null (local.get $long)))))))
