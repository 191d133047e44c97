// Runs one block of CUDA threads: a fiber for each, on the calling thread of the operating system.
//
// A fiber runs until it waits, at the block's barrier or for the other lanes of its warp. `Block::run` resumes
// those that may go on. Once none may, either all are done or the kernel is wrong, and `fail` says how.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <vector>

#include <sys/mman.h>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

struct dim3 {
    unsigned x = 1, y = 1, z = 1;
};

namespace shim {

constexpr unsigned WARP_LANES = 32;
constexpr unsigned THREADS_MAX = 1024;
// The stack of a fiber: kernels keep a few hundred values, and the address sanitizer puts zones around each array.
constexpr size_t STACK_BYTES = 256 << 10;

enum class Order { Ascending, Descending, Shuffled };

#if defined(__x86_64__)
// Saves the registers that a call preserves on the stack, changes stacks, and takes them back.
extern "C" void shim_switch(void** save, void* load);
asm(R"(
.text
.globl shim_switch
.type shim_switch, @function
shim_switch:
    push %rbp
    push %rbx
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, (%rdi)
    mov %rsi, %rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbx
    pop %rbp
    ret
.size shim_switch, .-shim_switch
)");

struct Context {
    void* stack_pointer = nullptr;

    void prepare(char* stack, void (*entry)()) {
        // As a call leaves it: the return address lies at 8 under a multiple of 16, above six registers.
        void** top = reinterpret_cast<void**>(stack + STACK_BYTES - 16);
        *--top = nullptr;
        *--top = reinterpret_cast<void*>(entry);
        for (int saved = 0; saved < 6; saved++) *--top = nullptr;
        stack_pointer = top;
    }

    void switch_to(Context& other) { shim_switch(&stack_pointer, other.stack_pointer); }
};
#else
struct Context {
    ucontext_t context;

    void prepare(char* stack, void (*entry)()) {
        getcontext(&context);
        context.uc_stack.ss_sp = stack;
        context.uc_stack.ss_size = STACK_BYTES;
        context.uc_link = nullptr;
        makecontext(&context, entry, 0);
    }

    void switch_to(Context& other) { swapcontext(&context, &other.context); }
};
#endif

enum class State { Ready, AtBarrier, AtWarp, Done };

struct Thread {
    Context context;
    State state;
    // Where it waits, or last waited.
    const char* what;
    int line;
    char* stack;
};

// What the lanes of a warp hand each other. Two sets: a lane that is ahead writes the next one while another still
// reads this one; it cannot be two ahead, for each exchange waits for all lanes.
struct Warp {
    unsigned waiting;
    unsigned set;
    unsigned char slots[2][WARP_LANES][32];
};

class Block {
  public:
    dim3 grid, index, threads;
    unsigned current;
    // Counts blocks, so that shared arrays know when a new one has begun.
    uint64_t serial = 0;
    float* dynamic_shared = nullptr;

    void order_by(Order order, unsigned seed) {
        order_ = order;
        random_.seed(seed);
    }

    // Runs every block of a launch, one after another.
    void launch(dim3 grid, dim3 threads, size_t shared_bytes, std::function<void()> body) {
        count_ = threads.x * threads.y * threads.z;
        if (count_ == 0 || count_ > THREADS_MAX || count_ % WARP_LANES != 0) {
            std::fprintf(stderr, "shim: a block of %u threads is no whole number of warps up to %u threads\n", count_,
                         THREADS_MAX);
            std::exit(1);
        }
        this->grid = grid;
        this->threads = threads;
        body_ = std::move(body);
        // Exactly as long as was asked for, so that the address sanitizer sees its end.
        std::unique_ptr<unsigned char[]> shared(new unsigned char[shared_bytes]);
        dynamic_shared = reinterpret_cast<float*>(shared.get());
        while (threads_.size() < count_) {
            void* stack = mmap(nullptr, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            if (stack == MAP_FAILED) {
                std::perror("shim: no memory for a thread's stack");
                std::exit(1);
            }
            threads_.push_back({{}, State::Done, "", 0, static_cast<char*>(stack)});
        }
        for (index.z = 0; index.z < grid.z; index.z++)
            for (index.y = 0; index.y < grid.y; index.y++)
                for (index.x = 0; index.x < grid.x; index.x++) {
                    std::memset(shared.get(), 0xff, shared_bytes);
                    run();
                }
    }

    dim3 thread_index() const {
        return {current % threads.x, current / threads.x % threads.y, current / threads.x / threads.y};
    }

    void barrier(int line) { wait(State::AtBarrier, "__syncthreads", line); }

    // Hands `value` to the other lanes of the warp; returns what each of them handed over.
    template <class T>
    const T* exchange(T value, const char* what, int line) {
        static_assert(sizeof(T) <= sizeof(Warp::slots[0][0]));
        Warp& warp = warps_[current / WARP_LANES];
        T* slots = reinterpret_cast<T*>(warp.slots[warp.set]);
        slots[current % WARP_LANES] = value;
        wait(State::AtWarp, what, line);
        return slots;
    }

  private:
    Order order_ = Order::Ascending;
    std::minstd_rand random_;
    unsigned count_ = 0;
    unsigned done_ = 0;
    std::function<void()> body_;
    std::vector<Thread> threads_;
    std::vector<Warp> warps_;
    std::vector<unsigned> turn_;
    Context scheduler_;

    void run() {
        serial++;
        warps_.assign(count_ / WARP_LANES, {});
        for (unsigned i = 0; i < count_; i++) {
            threads_[i].state = State::Ready;
            threads_[i].context.prepare(threads_[i].stack, entry);
        }
        turn_.resize(count_);
        for (unsigned i = 0; i < count_; i++) turn_[i] = order_ == Order::Descending ? count_ - 1 - i : i;
        done_ = 0;
        while (done_ < count_) {
            unsigned ran = 0;
            if (order_ == Order::Shuffled) {
                std::shuffle(turn_.begin(), turn_.end(), random_);
                ran = run_once(0, count_);
            } else {
                // One warp after another, each until it waits for the block: so far ahead of the others as it can be.
                for (unsigned first = 0; first < count_; first += WARP_LANES) {
                    while (const unsigned now = run_once(first, first + WARP_LANES)) ran += now;
                }
            }
            if (ran == 0) release_barrier();
        }
    }

    // Resumes those of `turn_[first..end]` that may go on, until each waits again; returns how many they are.
    unsigned run_once(unsigned first, unsigned end) {
        unsigned ran = 0;
        for (unsigned turn = first; turn < end; turn++) {
            const unsigned i = turn_[turn];
            if (threads_[i].state != State::Ready) continue;
            ran++;
            current = i;
            scheduler_.switch_to(threads_[i].context);
            if (threads_[i].state == State::Done) done_++;
            if (threads_[i].state == State::AtWarp) release_warp(i / WARP_LANES);
        }
        return ran;
    }

    static void entry();

    void wait(State state, const char* what, int line) {
        Thread& thread = threads_[current];
        thread.state = state;
        thread.what = what;
        thread.line = line;
        thread.context.switch_to(scheduler_);
    }

    // Lets a warp go on once its last lane has arrived.
    void release_warp(unsigned index) {
        Warp& warp = warps_[index];
        if (++warp.waiting < WARP_LANES) return;
        expect_together(index * WARP_LANES, WARP_LANES);
        warp.waiting = 0;
        warp.set ^= 1;
        for (unsigned lane = 0; lane < WARP_LANES; lane++) threads_[index * WARP_LANES + lane].state = State::Ready;
    }

    // No thread can go on: all wait at one barrier, or some wait for what will never come.
    void release_barrier() {
        expect_together(0, count_);
        for (unsigned i = 0; i < count_; i++) threads_[i].state = State::Ready;
    }

    // Fails unless these threads all wait at the same place.
    void expect_together(unsigned first, unsigned count) {
        // The one that waits for its warp is what holds others up, if there is one.
        unsigned one = first;
        for (unsigned i = first; i < first + count; i++) {
            if (threads_[i].state == State::AtWarp) {
                one = i;
                break;
            }
            if (threads_[one].state == State::Done) one = i;
        }
        unsigned others = first, others_end = first + count;
        if (threads_[one].state == State::AtWarp) {
            others = one / WARP_LANES * WARP_LANES;
            others_end = others + WARP_LANES;
        }
        for (unsigned other = others; other < others_end; other++) {
            const Thread &a = threads_[one], &b = threads_[other];
            if (a.state == b.state && a.line == b.line && a.what == b.what) continue;
            fail(one, other);
        }
    }

    [[noreturn]] void fail(unsigned one, unsigned other) {
        std::fprintf(stderr, "shim: diverged in block (%u, %u, %u): thread %u waits at %s of line %d, thread %u ", index.x,
                     index.y, index.z, one, threads_[one].what, threads_[one].line, other);
        if (threads_[other].state == State::Done) {
            std::fprintf(stderr, "has ended\n");
        } else {
            std::fprintf(stderr, "at %s of line %d\n", threads_[other].what, threads_[other].line);
        }
        std::exit(3);
    }
};

inline Block block;

inline void Block::entry() {
    block.body_();
    Thread& thread = block.threads_[block.current];
    thread.state = State::Done;
    thread.context.switch_to(block.scheduler_);
    std::abort();
}

// A `__shared__` array: an allocation of its own, so that the address sanitizer sees both its ends, and NaN when a block
// begins, so that what nobody wrote does not look like a result.
class SharedArray {
  public:
    explicit SharedArray(size_t bytes) : bytes_(bytes), memory_(static_cast<unsigned char*>(std::malloc(bytes))) {}

    void* of_this_block() {
        if (serial_ != block.serial) {
            serial_ = block.serial;
            std::memset(memory_, 0xff, bytes_);
        }
        return memory_;
    }

  private:
    size_t bytes_;
    uint64_t serial_ = 0;
    unsigned char* memory_;
};

}  // namespace shim
