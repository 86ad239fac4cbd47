;; A vector whose type in compiled code is not that of block parameters, taken along to two labels.
(module
  (func (export "run") (param i32) (result v128)
    (block $outer (result v128)
      (v128.not
        (block $inner (result v128)
          (br_table $inner $outer (f32x4.add (v128.const f32x4 1 2 3 4) (v128.const f32x4 1 2 3 4)) (local.get 0)))))))
(assert_return (invoke "run" (i32.const 0)) (v128.const i32x4 0xbfffffff 0xbf7fffff 0xbf3fffff 0xbeffffff))
(assert_return (invoke "run" (i32.const 1)) (v128.const f32x4 2 4 6 8))
(assert_return (invoke "run" (i32.const -1)) (v128.const f32x4 2 4 6 8))
