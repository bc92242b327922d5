/* The program as constants: struct bp_program and all that hangs from it, copied byte for byte out of memory, each
   pointer replaced by the place of what it points at. The tables below say where pointers are; a struct that changes
   its size without them is an error here. */
#include "ir.h"

#include <string.h>

/* ---- Where pointers are ------------------------------------------------------------------------------------------ */

typedef enum PointerKind {
    POINTS_AT_STRING,
    POINTS_AT_STRINGS, /* count of them */
    POINTS_AT_STRUCTS, /* count of `of` */
    POINTS_AT_BYTES,   /* count of `size` bytes */
    POINTS_AT_CODE,    /* the function of the name that stands at `name` */
    IS_STRUCT,         /* no pointer: one of `of` lies here */
} PointerKind;

typedef struct Layout Layout;

typedef struct PointerField {
    size_t offset;
    PointerKind kind;
    const Layout *of;
    size_t size;
    int64_t (*count)(const void *object);
    size_t name;
} PointerField;

struct Layout {
    size_t size;
    const PointerField *fields;
    int count;
};

#define COUNTED(type, field)                                                                                           \
    static int64_t type##_##field(const void *object) {                                                                \
        return ((const struct type *)object)->field;                                                                   \
    }
#define LAYOUT(type)                                                                                                   \
    static const Layout type##_layout = {sizeof(struct type), type##_fields,                                           \
                                         sizeof type##_fields / sizeof *type##_fields}
#define STRING(type, field)                                                                                            \
    { .offset = offsetof(struct type, field), .kind = POINTS_AT_STRING }
#define STRINGS(type, field, number)                                                                                   \
    { .offset = offsetof(struct type, field), .kind = POINTS_AT_STRINGS, .count = type##_##number }
#define STRUCTS(type, field, layout, number)                                                                           \
    {                                                                                                                  \
        .offset = offsetof(struct type, field), .kind = POINTS_AT_STRUCTS, .of = &layout##_layout,                     \
        .count = type##_##number                                                                                       \
    }
#define BYTES(type, field, number)                                                                                     \
    {                                                                                                                  \
        .offset = offsetof(struct type, field), .kind = POINTS_AT_BYTES, .size = sizeof *((struct type *)0)->field,    \
        .count = type##_##number                                                                                       \
    }
#define CODE(type, field, text)                                                                                        \
    { .offset = offsetof(struct type, field), .kind = POINTS_AT_CODE, .name = offsetof(struct type, text) }
#define INSIDE(type, field, layout)                                                                                    \
    { .offset = offsetof(struct type, field), .kind = IS_STRUCT, .of = &layout##_layout }

static const Layout bp_feed_layout = {sizeof(struct bp_feed), NULL, 0};
COUNTED(bp_function, feed_count)
static const PointerField bp_function_fields[] = {STRING(bp_function, name), CODE(bp_function, code, name),
                                                  STRUCTS(bp_function, feeds, bp_feed, feed_count),
                                                  CODE(bp_function, settle, settle_name),
                                                  STRING(bp_function, settle_name)};
LAYOUT(bp_function);

static const PointerField bp_transform_fields[] = {STRING(bp_transform, text)};
LAYOUT(bp_transform);

COUNTED(bp_column, category_count)
COUNTED(bp_column, missing_count)
COUNTED(bp_column, transform_count)
static const PointerField bp_column_fields[] = {STRING(bp_column, name), STRINGS(bp_column, categories, category_count),
                                                STRINGS(bp_column, missing, missing_count),
                                                STRUCTS(bp_column, transforms, bp_transform, transform_count)};
LAYOUT(bp_column);

COUNTED(bp_slot, column_count)
static const PointerField bp_slot_fields[] = {STRING(bp_slot, name), BYTES(bp_slot, columns, column_count)};
LAYOUT(bp_slot);

static const PointerField bp_file_fields[] = {STRING(bp_file, name), STRING(bp_file, path), STRING(bp_file, as)};
LAYOUT(bp_file);

COUNTED(bp_data, file_count)
COUNTED(bp_data, field_count)
COUNTED(bp_data, column_count)
COUNTED(bp_data, slot_count)
static int64_t bp_data_cells(const void *object) {
    const struct bp_data *data = object;
    return data->row_count * data->field_count;
}
static const PointerField bp_data_fields[] = {STRING(bp_data, name),
                                              STRUCTS(bp_data, files, bp_file, file_count),
                                              STRINGS(bp_data, rows, cells),
                                              STRINGS(bp_data, field_names, field_count),
                                              STRUCTS(bp_data, columns, bp_column, column_count),
                                              STRUCTS(bp_data, slots, bp_slot, slot_count),
                                              STRING(bp_data, preprocessing_from),
                                              CODE(bp_data, log, log_name),
                                              STRING(bp_data, log_name)};
LAYOUT(bp_data);

static const PointerField bp_tensor_fields[] = {STRING(bp_tensor, name)};
LAYOUT(bp_tensor);

COUNTED(bp_output, width)
static int64_t bp_output_classes(const void *object) {
    const struct bp_output *output = object;
    return output->kind == BP_OUTPUT_BINARY ? 2 : output->width;
}
static const PointerField bp_output_fields[] = {STRING(bp_output, name), STRINGS(bp_output, classes, classes),
                                                STRINGS(bp_output, columns, width)};
LAYOUT(bp_output);

COUNTED(bp_model, tensor_count)
COUNTED(bp_model, output_count)
static const PointerField bp_model_fields[] = {STRING(bp_model, name),
                                               INSIDE(bp_model, init, bp_function),
                                               STRING(bp_model, from),
                                               BYTES(bp_model, loaded, tensor_count),
                                               BYTES(bp_model, orthogonal, tensor_count),
                                               INSIDE(bp_model, predict, bp_function),
                                               STRUCTS(bp_model, outputs, bp_output, output_count)};
LAYOUT(bp_model);

COUNTED(bp_metric, rows)
static const PointerField bp_metric_fields[] = {STRING(bp_metric, name), STRINGS(bp_metric, labels, rows)};
LAYOUT(bp_metric);

static const Layout bp_ranking_layout = {sizeof(struct bp_ranking), NULL, 0};
COUNTED(bp_pass, ranking_count)
static const PointerField bp_pass_fields[] = {INSIDE(bp_pass, accumulate, bp_function),
                                              INSIDE(bp_pass, finish, bp_function),
                                              STRUCTS(bp_pass, rankings, bp_ranking, ranking_count)};
LAYOUT(bp_pass);

COUNTED(bp_measure, pass_count)
COUNTED(bp_measure, metric_count)
static const PointerField bp_measure_fields[] = {STRUCTS(bp_measure, passes, bp_pass, pass_count),
                                                 STRUCTS(bp_measure, metrics, bp_metric, metric_count)};
LAYOUT(bp_measure);

COUNTED(bp_check, tensor_count)
static const PointerField bp_check_fields[] = {STRING(bp_check, name),
                                               INSIDE(bp_check, loss, bp_function),
                                               INSIDE(bp_check, gradient, bp_function),
                                               BYTES(bp_check, tensors, tensor_count),
                                               BYTES(bp_check, parameter_offsets, tensor_count),
                                               BYTES(bp_check, gradient_offsets, tensor_count)};
LAYOUT(bp_check);

static const PointerField bp_trace_point_fields[] = {STRING(bp_trace_point, name)};
LAYOUT(bp_trace_point);

static const Layout bp_kept_value_layout = {sizeof(struct bp_kept_value), NULL, 0};
COUNTED(bp_prefix, value_count)
static const PointerField bp_prefix_fields[] = {INSIDE(bp_prefix, function, bp_function),
                                                STRUCTS(bp_prefix, values, bp_kept_value, value_count)};
LAYOUT(bp_prefix);

COUNTED(bp_train, model_count)
COUNTED(bp_train, trainable_count)
COUNTED(bp_train, trace_point_count)
COUNTED(bp_train, class_weight_count)
COUNTED(bp_train, check_count)
static const Layout bp_class_weights_layout = {sizeof(struct bp_class_weights), NULL, 0};
static const Layout bp_early_stopping_layout = {sizeof(struct bp_early_stopping), NULL, 0};
static const Layout bp_plateau_layout = {sizeof(struct bp_plateau), NULL, 0};
static const PointerField bp_train_fields[] = {STRING(bp_train, name),
                                               BYTES(bp_train, models, model_count),
                                               BYTES(bp_train, trainable, trainable_count),
                                               BYTES(bp_train, averages, trainable_count),
                                               INSIDE(bp_train, start, bp_function),
                                               INSIDE(bp_train, prefix, bp_prefix),
                                               INSIDE(bp_train, training, bp_measure),
                                               INSIDE(bp_train, validation, bp_measure),
                                               INSIDE(bp_train, early_stopping, bp_early_stopping),
                                               INSIDE(bp_train, plateau, bp_plateau),
                                               STRING(bp_train, checkpoint),
                                               STRUCTS(bp_train, class_weights, bp_class_weights, class_weight_count),
                                               INSIDE(bp_train, trace, bp_function),
                                               STRUCTS(bp_train, trace_points, bp_trace_point, trace_point_count),
                                               STRUCTS(bp_train, checks, bp_check, check_count)};
LAYOUT(bp_train);

static const PointerField bp_evaluate_fields[] = {STRING(bp_evaluate, name), INSIDE(bp_evaluate, measure, bp_measure)};
LAYOUT(bp_evaluate);

COUNTED(bp_save, model_count)
static const PointerField bp_save_fields[] = {STRING(bp_save, path), BYTES(bp_save, models, model_count)};
LAYOUT(bp_save);

static const Layout bp_statement_layout = {sizeof(struct bp_statement), NULL, 0};

static const PointerField bp_param_fields[] = {STRING(bp_param, name)};
LAYOUT(bp_param);

COUNTED(bp_program, param_count)
COUNTED(bp_program, tensor_count)
COUNTED(bp_program, model_count)
COUNTED(bp_program, data_count)
COUNTED(bp_program, train_count)
COUNTED(bp_program, evaluate_count)
COUNTED(bp_program, save_count)
COUNTED(bp_program, statement_count)
static const PointerField bp_program_fields[] = {STRING(bp_program, name),
                                                 STRING(bp_program, source),
                                                 STRING(bp_program, version),
                                                 STRUCTS(bp_program, params, bp_param, param_count),
                                                 STRUCTS(bp_program, tensors, bp_tensor, tensor_count),
                                                 STRUCTS(bp_program, models, bp_model, model_count),
                                                 STRUCTS(bp_program, data, bp_data, data_count),
                                                 STRUCTS(bp_program, trains, bp_train, train_count),
                                                 STRUCTS(bp_program, evaluates, bp_evaluate, evaluate_count),
                                                 STRUCTS(bp_program, saves, bp_save, save_count),
                                                 STRUCTS(bp_program, statements, bp_statement, statement_count)};
LAYOUT(bp_program);

/* ---- Constants --------------------------------------------------------------------------------------------------- */

typedef struct Image {
    Arena *arena;
    LLVMModuleRef module;
    LLVMContextRef context;
} Image;

/* One object on its way: bytes, pointers, bytes … */
typedef struct Object {
    const char *at;
    size_t size, done; /* bytes that are in parts */
    LIST(LLVMValueRef) parts;
} Object;

static LLVMValueRef no_pointer(const Image *image) {
    return LLVMConstNull(LLVMPointerTypeInContext(image->context, 0));
}

static LLVMValueRef global(const Image *image, LLVMValueRef constant, unsigned alignment) {
    LLVMValueRef place = LLVMAddGlobal(image->module, LLVMTypeOf(constant), "");
    LLVMSetInitializer(place, constant);
    LLVMSetGlobalConstant(place, true);
    LLVMSetLinkage(place, LLVMPrivateLinkage);
    LLVMSetAlignment(place, alignment);
    return place;
}

static LLVMValueRef string(const Image *image, const char *text) {
    if (!text)
        return no_pointer(image);
    return global(image, LLVMConstStringInContext2(image->context, text, strlen(text), false), 1);
}

static LLVMValueRef strings(const Image *image, const char *const *texts, int64_t count) {
    if (!texts || count == 0)
        return no_pointer(image);
    LLVMValueRef *all = arena_array(image->arena, LLVMValueRef, count);
    for (int64_t i = 0; i < count; i++)
        all[i] = string(image, texts[i]);
    return global(image, LLVMConstArray2(LLVMPointerTypeInContext(image->context, 0), all, (uint64_t)count), 8);
}

static void copy_bytes(Image *image, Object *object, size_t end) {
    if (end > object->done)
        *LIST_ADD(image->arena, &object->parts) =
            LLVMConstStringInContext2(image->context, object->at + object->done, end - object->done, true);
    object->done = end;
}

static LLVMValueRef structs(Image *image, const Layout *layout, const void *first, int64_t count);

static LLVMValueRef code(const Image *image, const char *name) {
    LLVMValueRef function = name ? LLVMGetNamedFunction(image->module, name) : NULL;
    if (name && !function)
        BUG("the program names a function that the module lacks: %s", name);
    return function ? function : no_pointer(image);
}

static LLVMValueRef target_of(Image *image, const PointerField *field, const char *owner) {
    const void *pointer;
    memcpy(&pointer, owner + field->offset, sizeof pointer);
    int64_t count = field->count ? field->count(owner) : 0;
    switch (field->kind) {
    case POINTS_AT_STRING:
        return string(image, pointer);
    case POINTS_AT_STRINGS:
        return strings(image, pointer, count);
    case POINTS_AT_STRUCTS:
        return pointer && count ? structs(image, field->of, pointer, count) : no_pointer(image);
    case POINTS_AT_BYTES:
        if (!pointer || count == 0)
            return no_pointer(image);
        return global(image, LLVMConstStringInContext2(image->context, pointer, (size_t)count * field->size, true), 16);
    case POINTS_AT_CODE: {
        const char *name;
        memcpy(&name, owner + field->name, sizeof name);
        return code(image, name);
    }
    case IS_STRUCT:
        break;
    }
    BUG("a field of kind %d", (int)field->kind);
}

/* `owner` lies within the object. */
static void add_struct(Image *image, Object *object, const Layout *layout, const char *owner) {
    for (int i = 0; i < layout->count; i++) {
        const PointerField *field = &layout->fields[i];
        if (field->kind == IS_STRUCT) {
            add_struct(image, object, field->of, owner + field->offset);
            continue;
        }
        size_t place = (size_t)(owner - object->at) + field->offset;
        if (place < object->done)
            BUG("the pointers of a struct are listed out of order");
        copy_bytes(image, object, place);
        *LIST_ADD(image->arena, &object->parts) = target_of(image, field, owner);
        object->done = place + sizeof(void *);
    }
}

static LLVMValueRef structs(Image *image, const Layout *layout, const void *first, int64_t count) {
    Object object = {.at = first, .size = layout->size * (size_t)count};
    for (int64_t i = 0; i < count; i++)
        add_struct(image, &object, layout, object.at + (size_t)i * layout->size);
    copy_bytes(image, &object, object.size);
    return global(image, LLVMConstStructInContext(image->context, object.parts.at, (unsigned)object.parts.count, true),
                  16);
}

/* int main(int argc, char **argv) { return bp_main(&program, argc, argv); } */
static void add_main(const Image *image, LLVMValueRef program) {
    LLVMTypeRef number = LLVMInt32TypeInContext(image->context), pointer = LLVMPointerTypeInContext(image->context, 0);
    LLVMTypeRef main_type = LLVMFunctionType(number, (LLVMTypeRef[]){number, pointer}, 2, false);
    LLVMTypeRef runtime_type = LLVMFunctionType(number, (LLVMTypeRef[]){pointer, number, pointer}, 3, false);
    LLVMValueRef function = LLVMAddFunction(image->module, "main", main_type);
    LLVMValueRef runtime = LLVMAddFunction(image->module, "bp_main", runtime_type);
    LLVMBuilderRef builder = LLVMCreateBuilderInContext(image->context);
    LLVMPositionBuilderAtEnd(builder, LLVMAppendBasicBlockInContext(image->context, function, "start"));
    LLVMValueRef args[3] = {program, LLVMGetParam(function, 0), LLVMGetParam(function, 1)};
    LLVMBuildRet(builder, LLVMBuildCall2(builder, runtime_type, runtime, args, 3, ""));
    LLVMDisposeBuilder(builder);
}

static LLVMTypeRef signature_type(const Image *image, char letter) {
    switch (letter) {
    case 'v':
        return LLVMVoidTypeInContext(image->context);
    case 'i':
    case 'I':
        return LLVMInt32TypeInContext(image->context);
    case 'l':
    case 'u':
        return LLVMInt64TypeInContext(image->context);
    case 'd':
        return LLVMDoubleTypeInContext(image->context);
    case 'p':
    case 'c':
    case 'P':
        return LLVMPointerTypeInContext(image->context, 0);
    default:
        BUG("no type of letter %c", letter);
    }
}

/* int iris_predict(void *a, const void *b, …) { return bp_host_predict(a, about, b, …); } */
static void add_host_function(const Image *image, LLVMValueRef program, const HostFunction *about) {
    enum { MOST = 8 };
    LLVMTypeRef own_types[MOST], all_types[MOST], result = signature_type(image, *about->signature);
    LLVMValueRef args[MOST];
    unsigned own = 0, all = 0;
    for (const char *letter = about->signature + 2; *letter; letter++) {
        if (all == MOST)
            BUG("%s takes more than %d", about->calls, MOST);
        all_types[all++] = signature_type(image, *letter);
        if (*letter != 'P' && *letter != 'I')
            own_types[own++] = all_types[all - 1];
    }
    LLVMTypeRef runtime_type = LLVMFunctionType(result, all_types, all, false);
    LLVMValueRef taken = LLVMGetNamedFunction(image->module, about->name);
    if (taken) /* a model may be called like its file: who is internal makes room */
        LLVMSetValueName2(taken, "", 0);
    LLVMValueRef function =
        LLVMAddFunction(image->module, about->name, LLVMFunctionType(result, own_types, own, false));
    LLVMValueRef runtime = LLVMGetNamedFunction(image->module, about->calls);
    if (!runtime)
        runtime = LLVMAddFunction(image->module, about->calls, runtime_type);
    LLVMBuilderRef builder = LLVMCreateBuilderInContext(image->context);
    LLVMPositionBuilderAtEnd(builder, LLVMAppendBasicBlockInContext(image->context, function, "start"));
    own = 0;
    for (unsigned i = 0; i < all; i++) {
        char letter = about->signature[2 + i];
        args[i] = letter == 'P'   ? program
                  : letter == 'I' ? LLVMConstInt(all_types[i], (unsigned long long)about->about, true)
                                  : LLVMGetParam(function, own++);
    }
    LLVMValueRef value = LLVMBuildCall2(builder, runtime_type, runtime, args, all, "");
    if (*about->signature == 'v')
        LLVMBuildRetVoid(builder);
    else
        LLVMBuildRet(builder, value);
    LLVMDisposeBuilder(builder);
}

/* What nothing reaches: functions that the program does not name, then their kernels, then what those call. */
static void remove_unused(LLVMModuleRef module) {
    for (bool removed = true; removed;) {
        removed = false;
        for (LLVMValueRef function = LLVMGetFirstFunction(module), next; function; function = next) {
            next = LLVMGetNextFunction(function);
            bool visible = LLVMGetLinkage(function) != LLVMInternalLinkage && !LLVMIsDeclaration(function);
            if (visible || LLVMGetFirstUse(function))
                continue;
            LLVMDeleteFunction(function);
            removed = true;
        }
    }
}

void print_program_image(Arena *arena, LLVMModuleRef module, const struct bp_program *program,
                         const LlvmOptions *options) {
    Image image = {arena, module, LLVMGetModuleContext(module)};
    for (LLVMValueRef function = LLVMGetFirstFunction(module); function; function = LLVMGetNextFunction(function))
        if (!LLVMIsDeclaration(function)) /* reached through the program alone */
            LLVMSetLinkage(function, LLVMInternalLinkage);
    LLVMValueRef constant = structs(&image, &bp_program_layout, program, 1);
    LLVMSetValueName2(constant, "program", strlen("program"));
    if (options->with_main)
        add_main(&image, constant);
    for (int i = 0; i < options->function_count; i++)
        add_host_function(&image, constant, &options->functions[i]);
    remove_unused(module);
}
