#pragma once
// BANACH_SANITIZED: whether a sanitizer watches, which takes twenty times as long and stands in for malloc.
// GCC says so by macros, Clang by __has_feature.

#ifndef __has_feature
#define __has_feature(feature) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || __has_feature(address_sanitizer) || \
    __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define BANACH_SANITIZED 1
#else
#define BANACH_SANITIZED 0
#endif
