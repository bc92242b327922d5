# Text files as a C array of struct embedded_file (emit/emit.h):
#   cmake -DOUTPUT=x.c -DARRAY=embedded_x "-DFILES=a|b|c" -P embed.cmake
# What a C string cannot hold as it is gets escaped; the text arrives byte for byte.
string(REPLACE "|" ";" files "${FILES}")
set(text "#include \"compiler/emit/emit.h\"\n\nconst struct embedded_file ${ARRAY}[] = {\n")
foreach(file IN LISTS files)
  get_filename_component(name "${file}" NAME)
  file(READ "${file}" content)
  string(REPLACE "\\" "\\\\" content "${content}")
  string(REPLACE "\"" "\\\"" content "${content}")
  string(REPLACE "?" "\\?" content "${content}") # no trigraphs
  string(REPLACE "\r" "\\r" content "${content}")
  string(REPLACE "\n" "\\n\"\n\"" content "${content}")
  file(SIZE "${file}" length)
  string(APPEND text "{\"${name}\",\n\"${content}\",\n${length}},\n")
endforeach()
string(APPEND text "{0, 0, 0},\n};\n")
file(WRITE "${OUTPUT}" "${text}")
