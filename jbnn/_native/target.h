// The functions between JBNN_TARGET("avx2,...") and JBNN_TARGET_END are compiled for those instructions, whatever the rest of the
// file is compiled for. Standard headers must have been included before.
#pragma once

#define JBNN_PRAGMA(text) _Pragma(#text)
#if defined(__clang__)
#define JBNN_TARGET(features) JBNN_PRAGMA(clang attribute push(__attribute__((target(features))), apply_to = function))
#define JBNN_TARGET_END JBNN_PRAGMA(clang attribute pop)
#else
#define JBNN_TARGET(features) JBNN_PRAGMA(GCC push_options) JBNN_PRAGMA(GCC target(features))
#define JBNN_TARGET_END JBNN_PRAGMA(GCC pop_options)
#endif

// Emits nothing, and keeps a value in its register and in its place: GCC else moves look-ups away from their additions, and
// spills.
#define JBNN_KEEP(r) asm volatile("" : "+x"(r))
#define JBNN_KEEP_WIDE(r) asm volatile("" : "+v"(r))  // of 32 registers
