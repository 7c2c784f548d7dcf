// Prints how many binary operations a second one core can do at best, by each way of counting that it has instructions for:
// nothing but the arithmetic of the innermost loop, on registers. An operation is half a multiply-accumulate. And its clock,
// in cycles a second.
#include <chrono>
#include <cstdio>

namespace {

using Clock = std::chrono::steady_clock;

// `amount` is what a turn does; the best of many short runs, which nothing else has disturbed.
template <class Loop>
void measure(const char* name, double amount, Loop loop) {
  double best = 0;
  for (int run = 0; run < 200; run++) {
    const long turns = 20000;
    const auto start = Clock::now();
    loop(turns);
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    if (turns * amount / seconds > best) best = turns * amount / seconds;
  }
  std::printf("%s %.4g\n", name, best);
}

}  // namespace

int main() {
  // Each addition waits for the one before it, which takes a cycle; they double, as some processors add several small
  // constants at once. The loop's own counting goes on beside them.
#if defined(__x86_64__)
  measure("clock", 64, [](long n) {
    long sum = 1;
    asm volatile("1:\n .rept 64\n add %1, %1\n .endr\n dec %0\n jnz 1b" : "+r"(n), "+r"(sum)::"cc");
  });
  if (__builtin_cpu_supports("avx512vpopcntdq"))  // exclusive or, count, add: four times 512 bits
    measure("avx512", 2 * 4 * 512, [](long n) {
      asm volatile(
          "1: vpxord %%zmm8, %%zmm9, %%zmm10\n vpopcntd %%zmm10, %%zmm10\n vpaddd %%zmm10, %%zmm0, %%zmm0\n"
          "vpxord %%zmm8, %%zmm9, %%zmm11\n vpopcntd %%zmm11, %%zmm11\n vpaddd %%zmm11, %%zmm1, %%zmm1\n"
          "vpxord %%zmm8, %%zmm9, %%zmm12\n vpopcntd %%zmm12, %%zmm12\n vpaddd %%zmm12, %%zmm2, %%zmm2\n"
          "vpxord %%zmm8, %%zmm9, %%zmm13\n vpopcntd %%zmm13, %%zmm13\n vpaddd %%zmm13, %%zmm3, %%zmm3\n"
          "dec %0\n jnz 1b\n vzeroupper"
          : "+r"(n)::"xmm0", "xmm1", "xmm2", "xmm3", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "cc");
    });
  if (__builtin_cpu_supports("avx2"))  // two windows a look-up, seven look-ups until the counters: twice 7 nibbles of 32 channels
    measure("avx2", 2 * 2 * 7 * 4 * 32 * 2, [](long n) {
      asm volatile(
          "1: vpshufb %%ymm8, %%ymm9, %%ymm0\n vpshufb %%ymm8, %%ymm9, %%ymm1\n"
          ".rept 6\n vpshufb %%ymm8, %%ymm9, %%ymm10\n vpshufb %%ymm8, %%ymm9, %%ymm11\n"
          "vpaddb %%ymm10, %%ymm0, %%ymm0\n vpaddb %%ymm11, %%ymm1, %%ymm1\n .endr\n"
          "vpaddb %%ymm0, %%ymm2, %%ymm2\n vpaddb %%ymm1, %%ymm3, %%ymm3\n vpsrlw $4, %%ymm0, %%ymm0\n vpsrlw $4, %%ymm1, "
          "%%ymm1\n"
          "vpaddb %%ymm0, %%ymm4, %%ymm4\n vpaddb %%ymm1, %%ymm5, %%ymm5\n dec %0\n jnz 1b\n vzeroupper"
          : "+r"(n)::"xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm8", "xmm9", "xmm10", "xmm11", "cc");
    });
#elif defined(__aarch64__)
  measure("clock", 64, [](long n) {
    long sum = 1;
    asm volatile("1:\n .rept 64\n add %1, %1, %1\n .endr\n subs %0, %0, #1\n b.ne 1b" : "+r"(n), "+r"(sum)::"cc");
  });
  measure("neon", 2 * 4 * 128, [](long n) {  // exclusive or, count of bytes, add: four times 128 bits
    asm volatile(
        "1: eor v10.16b, v8.16b, v9.16b\n cnt v10.16b, v10.16b\n add v0.16b, v0.16b, v10.16b\n"
        "eor v11.16b, v8.16b, v9.16b\n cnt v11.16b, v11.16b\n add v1.16b, v1.16b, v11.16b\n"
        "eor v12.16b, v8.16b, v9.16b\n cnt v12.16b, v12.16b\n add v2.16b, v2.16b, v12.16b\n"
        "eor v13.16b, v8.16b, v9.16b\n cnt v13.16b, v13.16b\n add v3.16b, v3.16b, v13.16b\n"
        "subs %0, %0, #1\n b.ne 1b"
        : "+r"(n)::"v0", "v1", "v2", "v3", "v8", "v9", "v10", "v11", "v12", "v13", "cc");
  });
#endif
}
