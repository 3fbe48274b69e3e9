/* A GPU for tests: the functions of the CUDA driver that edge_sser/backends/cuda.py calls, over ordinary memory.

   Forms and names follow cuda.h as cuda-bindings 13.5 declares it (cydriver.pxd), CUdeviceptr being 64 bits wide. What
   was allocated is written to the file that STAND_IN_CUDA_LOG names, one line an allocation or release. A copy outside
   what was allocated is CUDA_ERROR_INVALID_VALUE, a call without a context CUDA_ERROR_INVALID_CONTEXT. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NO_DEVICE = 100, INVALID_CONTEXT = 201 };
enum { MOST = 64 };

static struct { char *start; size_t size; } blocks[MOST];
static int context_made, stream_made;
static _Thread_local void *current;

static void note(const char *what, size_t size) {
    const char *path = getenv("STAND_IN_CUDA_LOG");
    FILE *file = path ? fopen(path, "a") : NULL;
    if (file) { fprintf(file, "%s %zu\n", what, size); fclose(file); }
}

static int inside(uint64_t address, size_t size) {
    for (int place = 0; place < MOST; place++) {
        char *start = blocks[place].start;
        if (start && (char *)address >= start && (char *)address + size <= start + blocks[place].size) return 1;
    }
    return 0;
}

int cuInit(unsigned flags) { return getenv("STAND_IN_CUDA_NONE") ? NO_DEVICE : flags ? INVALID_VALUE : SUCCESS; }
int cuDeviceGet(int *device, int ordinal) { *device = 0; return ordinal ? INVALID_VALUE : SUCCESS; }

int cuDeviceGetName(char *name, int length, int device) {
    const char *given = getenv("STAND_IN_CUDA_NAME");
    if (device) return INVALID_VALUE;
    snprintf(name, length, "%s", given ? given : "Orin");
    return SUCCESS;
}

int cuDeviceGetAttribute(int *value, int attribute, int device) {
    if (device || (attribute != 75 && attribute != 76)) return INVALID_VALUE;
    *value = attribute == 75 ? 8 : getenv("STAND_IN_CUDA_MINOR") ? atoi(getenv("STAND_IN_CUDA_MINOR")) : 7;
    return SUCCESS;
}

int cuDevicePrimaryCtxRetain(void **context, int device) { context_made++; *context = &blocks; return device; }
int cuDevicePrimaryCtxRelease_v2(int device) { context_made--; return device; }
int cuCtxSetCurrent(void *context) { current = context; return context == &blocks ? SUCCESS : INVALID_CONTEXT; }

int cuMemAlloc_v2(uint64_t *address, size_t size) {
    if (!current || !context_made) return INVALID_CONTEXT;
    if (size > 1 << 30) return OUT_OF_MEMORY;
    for (int place = 0; place < MOST; place++)
        if (!blocks[place].start) {
            blocks[place].start = malloc(size);
            blocks[place].size = size;
            *address = (uint64_t)blocks[place].start;
            note("allocated", size);
            return SUCCESS;
        }
    return OUT_OF_MEMORY;
}

int cuMemFree_v2(uint64_t address) {
    for (int place = 0; place < MOST; place++)
        if (blocks[place].start == (char *)address && address) {
            note("freed", blocks[place].size);
            free(blocks[place].start);
            blocks[place].start = NULL;
            return SUCCESS;
        }
    return INVALID_VALUE;
}

int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t size, void *stream) {
    if (!current) return INVALID_CONTEXT;
    if (stream != &stream_made || !inside(to, size)) return INVALID_VALUE;
    memcpy((void *)to, from, size);
    return SUCCESS;
}

int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t size, void *stream) {
    if (!current) return INVALID_CONTEXT;
    if (stream != &stream_made || !inside(from, size)) return INVALID_VALUE;
    memcpy(to, (void *)from, size);
    return SUCCESS;
}

int cuStreamCreate(void **stream, unsigned flags) {
    if (!current) return INVALID_CONTEXT;
    stream_made++;
    *stream = &stream_made;
    return flags == 1 ? SUCCESS : INVALID_VALUE;
}

int cuStreamSynchronize(void *stream) { return stream == &stream_made ? SUCCESS : INVALID_VALUE; }
int cuStreamDestroy_v2(void *stream) { stream_made--; return stream == &stream_made ? SUCCESS : INVALID_VALUE; }

int cuGetErrorName(int error, const char **name) {
    *name = error == NO_DEVICE ? "CUDA_ERROR_NO_DEVICE" : error == INVALID_CONTEXT ? "CUDA_ERROR_INVALID_CONTEXT"
          : error == OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR_INVALID_VALUE";
    return SUCCESS;
}
