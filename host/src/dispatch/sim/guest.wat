;; App with one function, `f`, whose outcome follows from its input, a digit. 9: a failure that no attempt can mend.
;; Another digit: as many attempts fail, and the next one returns the input.
(component
  (import "bireme:host/context@0.1.0" (instance $context
    (type $call-info-shape (record
      (field "app" string) (field "function" string) (field "version" string) (field "call-id" string)
      (field "attempt" u32)))
    (export "call-info" (type $call-info (eq $call-info-shape)))
    (export "current" (func (result $call-info)))))

  (core module $heap
    (memory (export "memory") 1)
    (global $next (mut i32) (i32.const 8192))
    ;; Gives out new memory each time: an instance serves one call.
    (func (export "realloc") (param i32 i32) (param $align i32) (param $bytes i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and
        (i32.add (global.get $next) (i32.sub (local.get $align) (i32.const 1)))
        (i32.sub (i32.const 0) (local.get $align))))
      (global.set $next (i32.add (local.get $at) (local.get $bytes)))
      (block $fits
        (br_if $fits (i32.le_u (global.get $next) (i32.shl (memory.size) (i32.const 16))))
        (br_if $fits (i32.ne (i32.const -1)
          (memory.grow (i32.add (i32.shr_u (local.get $bytes) (i32.const 16)) (i32.const 1)))))
        unreachable)
      (local.get $at)))
  (core instance $heap (instantiate $heap))
  (alias core export $heap "memory" (core memory $memory))
  (alias core export $heap "realloc" (core func $realloc))
  (core func $current (canon lower (func $context "current") (memory $memory) (realloc $realloc)))

  (core module $main
    (import "heap" "memory" (memory 1))
    (import "host" "current" (func $current (param i32)))
    ;; At 0, the result of `invoke`; at 64, that of `current`.
    (data (i32.const 128) "this attempt fails")
    (data (i32.const 160) "every attempt fails")
    (data (i32.const 192) "{}")
    (func $fail (param $code i32) (param $message i32) (param $len i32) (result i32)
      (i32.store8 (i32.const 0) (i32.const 1))
      (i32.store8 (i32.const 4) (local.get $code))
      (i32.store (i32.const 8) (local.get $message))
      (i32.store (i32.const 12) (local.get $len))
      ;; No causes.
      (i32.store (i32.const 16) (i32.const 0))
      (i32.store (i32.const 20) (i32.const 0))
      (i32.const 0))
    (func (export "invoke")
      (param $function i32) (param $function-len i32)
      (param $type i32) (param $type-len i32) (param $data i32) (param $data-len i32)
      (result i32)
      (local $digit i32)
      (local.set $digit (i32.sub (i32.load8_u (local.get $data)) (i32.const 48)))
      (if (i32.eq (local.get $digit) (i32.const 9))
        (then (return (call $fail (i32.const 1) (i32.const 160) (i32.const 19)))))
      (call $current (i32.const 64))
      ;; The attempt, from 1, lies behind four strings.
      (if (i32.le_u (i32.load (i32.const 96)) (local.get $digit))
        (then (return (call $fail (i32.const 0) (i32.const 128) (i32.const 18)))))
      (i32.store8 (i32.const 0) (i32.const 0))
      (i32.store (i32.const 4) (local.get $type))
      (i32.store (i32.const 8) (local.get $type-len))
      (i32.store (i32.const 12) (local.get $data))
      (i32.store (i32.const 16) (local.get $data-len))
      (i32.const 0))
    ;; Never called: the metadata is attached.
    (func (export "describe") (result i32)
      (i32.store (i32.const 0) (i32.const 192))
      (i32.store (i32.const 4) (i32.const 2))
      (i32.const 0)))
  (core instance $main (instantiate $main
    (with "heap" (instance $heap))
    (with "host" (instance (export "current" (func $current))))))

  (type $payload-shape (record (field "content-type" string) (field "data" (list u8))))
  (export $payload "payload" (type $payload-shape))
  (type $code-shape (enum
    "failed" "terminal" "invalid-input" "unknown-function" "timeout" "memory-limit" "crashed" "input-too-large"
    "output-too-large" "overloaded" "depth-exceeded" "cancelled" "unavailable"))
  (export $code "failure-code" (type $code-shape))
  (type $failure-shape (record (field "code" $code) (field "message" string) (field "causes" (list string))))
  (export $failure "failure" (type $failure-shape))
  (func $invoke (param "function" string) (param "input" $payload) (result (result $payload (error $failure)))
    (canon lift (core func $main "invoke") (memory $memory) (realloc $realloc)))
  (instance $handler (export "invoke" (func $invoke)))
  (export "bireme:host/handler@0.1.0" (instance $handler))

  (func $describe (result string) (canon lift (core func $main "describe") (memory $memory)))
  (instance $metadata (export "describe" (func $describe)))
  (export "bireme:host/metadata@0.1.0" (instance $metadata)))
