;; Small objects that die young: lists of a thousand cells, built and summed.
(module
  (type $cell (struct (field $value i32) (field $next (ref null $cell))))
  (func $build (param $length i32) (result (ref null $cell))
    (local $list (ref null $cell))
    (loop $more
      (local.set $list (struct.new $cell (local.get $length) (local.get $list)))
      (br_if $more (local.tee $length (i32.sub (local.get $length) (i32.const 1)))))
    (local.get $list))
  (func $sum (param $list (ref null $cell)) (result i64)
    (local $sum i64)
    (block $end
      (loop $more
        (br_if $end (ref.is_null (local.get $list)))
        (local.set $sum (i64.add (local.get $sum) (i64.extend_i32_u (struct.get $cell $value (local.get $list)))))
        (local.set $list (struct.get $cell $next (local.get $list)))
        (br $more)))
    (local.get $sum))
  (func (export "run") (param $rounds i32) (result i64)
    (local $sum i64)
    (loop $more
      (local.set $sum (i64.add (local.get $sum) (call $sum (call $build (i32.const 1000)))))
      (br_if $more (local.tee $rounds (i32.sub (local.get $rounds) (i32.const 1)))))
    (local.get $sum)))
