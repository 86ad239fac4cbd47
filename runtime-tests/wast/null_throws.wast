;; The tag of an exception is read only where the reference is known not to be null: not before a loop, nor before a
;; branch around the throw.
(module (tag $t)
  (func (export "in_loop")
    (loop $again
      (try_table (catch $t $again) (throw_ref (ref.null exn)))))
  (func $not_taken (param $e exnref) (param $n i32)
    (loop $again
      (if (i32.eqz (local.get $n)) (then (return)))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (try_table (catch $t $again)
        (if (ref.is_null (local.get $e)) (then (br $again)))
        (throw_ref (local.get $e)))))
  (func (export "not_taken") (call $not_taken (ref.null exn) (i32.const 3)))
  ;; The exception comes from a call or from a throw, the null from a parameter.
  (func $throw (throw $t))
  (func $either (param $e exnref) (param $n i32) (result i32)
    (local $caught i32)
    (loop $again
      (if (i32.eqz (local.get $n)) (then (return (local.get $caught))))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (block $handler
        (try_table (catch $t $handler)
          (if (i32.and (local.get $n) (i32.const 1)) (then (br $again)))
          (if (i32.and (local.get $n) (i32.const 2)) (then (call $throw)))
          (throw_ref (local.get $e))))
      (local.set $caught (i32.add (local.get $caught) (i32.const 1)))
      (br $again))
    (unreachable))
  (func (export "either") (param i32) (result i32) (call $either (ref.null exn) (local.get 0)))
  (func (export "made_and_caught") (param $n i32) (result i32)
    (local $caught i32)
    (loop $again
      (block $handler
        (try_table (catch $t $handler) (call $throw))
        (unreachable))
      (local.set $caught (i32.add (local.get $caught) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $caught) (local.get $n))))
    (local.get $caught)))
(assert_trap (invoke "in_loop") "null exception reference")
(assert_return (invoke "not_taken"))
(assert_trap (invoke "either" (i32.const 8)) "null exception reference")
(assert_return (invoke "either" (i32.const 0)) (i32.const 0))
(assert_return (invoke "made_and_caught" (i32.const 20000)) (i32.const 20000))
