# Reads the provider.yaml files of a folder with nova's own code and schema, and prints the
# additional traits of each provider. Arguments: the folder with nova's sources, and that of the
# files.
#
# nova's package needs some fifty others. Its module for these files needs only two names of them.
import importlib.util
import json
import os
import sys
import types

sources, folder = sys.argv[1:]
exception = types.ModuleType("nova.exception")
exception.ProviderConfigException = type("ProviderConfigException", (Exception,), {
    "__init__": lambda self, error=None, **_: Exception.__init__(self, error)})
translation = types.ModuleType("nova.i18n")
translation._ = str
package = types.ModuleType("nova")
package.exception = exception
sys.modules |= {"nova": package, "nova.exception": exception, "nova.i18n": translation}
path = os.path.join(sources, "nova", "compute", "provider_config.py")
spec = importlib.util.spec_from_file_location("provider_config", path)
provider_config = importlib.util.module_from_spec(spec)
spec.loader.exec_module(provider_config)
providers = provider_config.get_provider_configs(folder)
print(json.dumps({name: it["traits"]["additional"] for name, it in providers.items()}))
