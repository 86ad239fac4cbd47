;; Exceptions: each is thrown over ten frames to its handler.
(module
  (tag $found (param i32))
  (func $search (param $depth i32) (param $value i32)
    (if (i32.eqz (local.get $depth)) (then (throw $found (local.get $value))))
    (call $search (i32.sub (local.get $depth) (i32.const 1)) (i32.add (local.get $value) (i32.const 3)))
    ;; So that the frame is still there when the call returns.
    (drop (i32.mul (local.get $depth) (local.get $value))))
  (func $try (param $value i32) (result i32)
    (block $caught (result i32)
      (try_table (catch $found $caught) (call $search (i32.const 10) (local.get $value)))
      (i32.const -1)))
  (func (export "run") (param $rounds i32) (result i64)
    (local $sum i64) (local $i i32)
    (loop $round
      (local.set $i (i32.const 1000))
      (loop $more
        (local.set $sum (i64.add (local.get $sum) (i64.extend_i32_s (call $try (local.get $i)))))
        (br_if $more (local.tee $i (i32.sub (local.get $i) (i32.const 1)))))
      (br_if $round (local.tee $rounds (i32.sub (local.get $rounds) (i32.const 1)))))
    (local.get $sum)))
