;; Calls through typed references: operations in an order that is hard to foresee, from a table.
(module
  (type $op (func (param i64 i32) (result i64)))
  (table $ops (ref null $op) (elem (ref.func $add) (ref.func $xor) (ref.func $rotate) (ref.func $count)))
  (func $add (type $op) (i64.add (local.get 0) (i64.extend_i32_u (local.get 1))))
  (func $xor (type $op) (i64.xor (local.get 0) (i64.extend_i32_s (local.get 1))))
  (func $rotate (type $op) (i64.rotl (local.get 0) (i64.extend_i32_u (local.get 1))))
  (func $count (type $op) (i64.add (local.get 0) (i64.const 1)))
  (func (export "run") (param $rounds i32) (result i64)
    (local $i i32) (local $end i32) (local $sum i64)
    (local.set $end (i32.mul (local.get $rounds) (i32.const 1000)))
    (loop $more
      (local.set $sum
        (call_ref $op (local.get $sum) (local.get $i)
          (table.get $ops (i32.shr_u (i32.mul (local.get $i) (i32.const 0x9e3779b1)) (i32.const 30)))))
      (br_if $more (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (local.get $end))))
    (local.get $sum)))
