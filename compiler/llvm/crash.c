/* A crash in compiled code names its kernel and the kernel's line, then takes its course: whoever handled the signal
   before, or a core dump, finds the registers as they were. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* registers, dladdr */
#endif
#include "ir.h"

#include <dlfcn.h>
#include <signal.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

static const struct {
    int number;
    const char *name;
} signals[] = {{SIGSEGV, "segmentation fault"},
               {SIGBUS, "bus error"},
               {SIGILL, "illegal instruction"},
               {SIGFPE, "arithmetic error"}};
enum { SIGNALS = sizeof signals / sizeof *signals };

static struct sigaction before[SIGNALS];
static LlvmCode *watched;

/* NULL where this machine's registers are not known here. */
static const void *place_of(const void *context) {
    const ucontext_t *registers = context;
#if defined(__x86_64__)
    return (const void *)(uintptr_t)registers->uc_mcontext.gregs[REG_RIP];
#elif defined(__aarch64__)
    return (const void *)(uintptr_t)registers->uc_mcontext.pc;
#else
    (void)registers;
    return NULL;
#endif
}

/* Looking names up is not for a signal handler, but nothing else may be done any more, and who crashed in a kernel holds
   no lock. */
static void tell(int number, const void *place) {
    char line[1024];
    Dl_info library;
    Place at;
    const char *crash = "";
    if (!place || dladdr(place, &library)) /* not compiled by us */
        return;
    const char *name = code_at(watched, place, &at);
    for (int i = 0; i < SIGNALS; i++)
        if (signals[i].number == number)
            crash = signals[i].name;
    int length = name ? snprintf(line, sizeof line, "%s:%d: error: %s in %s, which is a bug of bpc\n", at.path, at.line,
                                 crash, name)
                      : snprintf(line, sizeof line, "bpc: error: %s in compiled code, which is a bug of bpc\n", crash);
    if (length > 0 && write(STDERR_FILENO, line, (size_t)length < sizeof line ? (size_t)length : sizeof line - 1) < 0)
        return; /* then there is nobody to tell */
}

static void on_crash(int number, siginfo_t *about, void *context) {
    int i = 0;
    while (i < SIGNALS - 1 && signals[i].number != number)
        i++;
    sigaction(number, &before[i], NULL);
    tell(number, place_of(context));
    if (about->si_code <= 0) /* sent by somebody: it does not come again by itself */
        raise(number);
}

void crash_watch(LlvmCode *code) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_crash;
    action.sa_flags = SA_SIGINFO;
    sigemptyset(&action.sa_mask);
    watched = code;
    for (int i = 0; i < SIGNALS; i++)
        sigaction(signals[i].number, &action, &before[i]);
}

void crash_watch_no_more(LlvmCode *code) {
    if (watched != code)
        return;
    watched = NULL;
    for (int i = 0; i < SIGNALS; i++)
        sigaction(signals[i].number, &before[i], NULL);
}
