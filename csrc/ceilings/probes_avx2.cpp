#define AIENG_VECTOR_BYTES 32
#include "vector_probes.h"

aieng::ceilings::Probes aieng::ceilings::avx2_probes() { return probes(kCompute, kStreams); }
