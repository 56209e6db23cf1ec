/** A hash of the engine's module, filled in by the build: other kernels have to be checked anew. */
declare const __KERNELS__: string;
