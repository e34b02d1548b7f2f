# Installs the build, moves the tree as a package would be moved, and configures, builds and runs a project
# that knows nothing but the prefix.
file(REMOVE_RECURSE ${work})

function(step)
  execute_process(COMMAND ${ARGV} RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT result EQUAL 0)
    list(JOIN ARGV " " command)
    message(FATAL_ERROR "${command}\n${output}")
  endif()
  set(output "${output}" PARENT_SCOPE)
endfunction()

step(${CMAKE_COMMAND} --install ${build} --prefix ${work}/installed --config ${config})
file(RENAME ${work}/installed ${work}/moved)
step(${CMAKE_COMMAND} -S ${source} -B ${work}/build -G ${generator} -DCMAKE_BUILD_TYPE=${config}
     -DCMAKE_CXX_COMPILER=${compiler} -DCMAKE_PREFIX_PATH=${work}/moved)
step(${CMAKE_COMMAND} --build ${work}/build --config ${config})
step(${work}/build/consumer)
string(FIND "${output}" "y 2 dx 1 -2 3\n" found)
if(found EQUAL -1)
  message(FATAL_ERROR "the consumer printed:\n${output}")
endif()

# Nothing that was installed may name the source tree.
file(GLOB_RECURSE configs ${work}/moved/*.cmake)
get_filename_component(tree ${source}/../../.. ABSOLUTE)
foreach(config_file ${configs})
  file(READ ${config_file} text)
  string(FIND "${text}" "${tree}/" found)
  if(NOT found EQUAL -1)
    message(FATAL_ERROR "${config_file} names ${tree}")
  endif()
endforeach()
