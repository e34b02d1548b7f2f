// The list of families: a declaration and a row for each. The order is that of recognition.
#include "models/family.h"

namespace whence {

Family clip_family();
Family vit_family();
Family language_families();
Family cnn_family();
Family other_families();

const std::vector<Family>& families() {
  static const std::vector<Family> list{
      clip_family(),        // recognised only
      vit_family(),         // vit/
      language_families(),  // recognised only
      cnn_family(),         // cnn/
      other_families(),     // recognised only
  };
  return list;
}

}  // namespace whence
