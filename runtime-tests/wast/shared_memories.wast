;; Threads that share a memory: each has its own store, and waits for the others.

(module $Mem (memory (export "shared") 1 4 shared))

(thread $waiter (shared (module $Mem))
  (register "mem" $Mem)
  (module
    (memory (import "mem" "shared") 1 4 shared)
    (func (export "wait") (result i32)
      (i32.atomic.store (i32.const 8) (i32.const 1))
      (memory.atomic.wait32 (i32.const 0) (i32.const 0) (i64.const -1)))
    (func (export "message") (result i64) (i64.load (i32.const 0x20000))))
  (assert_return (invoke "wait") (i32.const 0))
  ;; The memory was grown before the notification.
  (assert_return (invoke "message") (i64.const 42)))

(thread $notifier (shared (module $Mem))
  (register "mem" $Mem)
  (module
    (memory (import "mem" "shared") 1 4 shared)
    (func (export "notify") (result i32)
      (drop (memory.grow (i32.const 2)))
      (i64.store (i32.const 0x20000) (i64.const 42))
      (loop $again
        (br_if $again (i32.eqz (memory.atomic.notify (i32.const 0) (i32.const 1)))))
      (i32.atomic.load (i32.const 8))))
  (assert_return (invoke "notify") (i32.const 1)))

(wait $waiter)
(wait $notifier)

(register "mem" $Mem)
(module
  (memory (import "mem" "shared") 3 4 shared)
  (func (export "size") (result i32) (memory.size)))
(assert_return (invoke "size") (i32.const 3))
(assert_unlinkable (module (memory (import "mem" "shared") 4 4 shared)) "incompatible import type")
(assert_unlinkable (module (memory (import "mem" "shared") 1 4)) "incompatible import type")
(assert_invalid (module (memory 1 shared)) "shared memory must have maximum")
