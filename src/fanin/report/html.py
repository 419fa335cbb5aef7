def html(results, command): return "x"
