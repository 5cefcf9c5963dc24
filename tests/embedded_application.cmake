# Installs the library of BUILD, builds SOURCE/examples/embed against the installation alone, and runs it on two ranks.
set(prefix ${BUILD}/embedded_application)
file(REMOVE_RECURSE ${prefix})

function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE result)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "${ARGN}: exit ${result}")
  endif()
endfunction()

run(${CMAKE_COMMAND} --install ${BUILD} --component library --prefix ${prefix})
foreach(folder launch tests)
  if(EXISTS ${prefix}/include/takt/${folder})
    message(FATAL_ERROR "${folder} was installed: an application has no job file and no command line")
  endif()
endforeach()
run(${CMAKE_COMMAND} -S ${SOURCE}/examples/embed -B ${prefix}/build -DCMAKE_PREFIX_PATH=${prefix}
    -DCMAKE_BUILD_TYPE=Release)
run(${CMAKE_COMMAND} --build ${prefix}/build)
run(${MPIEXEC} -np 2 --oversubscribe ${prefix}/build/pump ${prefix}/model)
